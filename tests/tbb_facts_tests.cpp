// labels: graph
// What pipeline/graph.cpp leans on in oneTBB, shown on oneTBB alone: an upgrade that changes one of
// these is seen here first.
#include <boost/test/unit_test.hpp>

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <tuple>
#include <vector>

namespace flow = oneapi::tbb::flow;
using oneapi::tbb::task_arena;

namespace {

// `threads` workers and a reserved place for whoever waits, as in Graph::Arena.
struct Arena {
  explicit Arena(int threads)
      : control(oneapi::tbb::global_control::max_allowed_parallelism,
                static_cast<size_t>(threads) + 1),
        arena(threads + 1, 1) {}
  oneapi::tbb::global_control control;
  task_arena arena;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_graph_works_on_its_workers_while_its_pusher_blocks) {
  for (const int threads : {1, 2, 4}) {
    Arena arena(threads);
    std::unique_ptr<flow::graph> graph;
    arena.arena.execute([&] { graph = std::make_unique<flow::graph>(); });
    std::atomic<int> done{0};
    flow::function_node<int> node{*graph, flow::serial, [&](int) noexcept {
                                    done.fetch_add(1);
                                    done.notify_one();
                                    return flow::continue_msg();
                                  }};
    for (int i = 0; i < 20'000; ++i) {
      graph->reserve_wait();
      arena.arena.enqueue([&, i] {
        node.try_put(i);
        graph->release_wait();
      });
      done.wait(i);  // a message that is left lying hangs here
    }
    graph->wait_for_all();
    BOOST_TEST(done == 20'000);
  }
}

BOOST_AUTO_TEST_CASE(a_multifunction_node_behind_another_keeps_the_order) {
  using Node = flow::multifunction_node<int, std::tuple<int>>;
  Arena arena(2);
  std::unique_ptr<flow::graph> graph;
  arena.arena.execute([&] { graph = std::make_unique<flow::graph>(); });
  const auto pass = [](int value, Node::output_ports_type& ports) noexcept {
    std::get<0>(ports).try_put(value);
  };
  Node first{*graph, flow::serial, pass};
  Node second{*graph, flow::serial, pass};
  std::vector<int> seen;
  flow::function_node<int> last{*graph, flow::serial, [&](int value) noexcept {
                                  seen.push_back(value);
                                  return flow::continue_msg();
                                }};
  flow::make_edge(flow::output_port<0>(first), second);
  flow::make_edge(flow::output_port<0>(second), last);
  graph->reserve_wait();
  arena.arena.enqueue([&] {
    for (int i = 0; i < 200'000; ++i) first.try_put(i);
    graph->release_wait();
  });
  graph->wait_for_all();
  BOOST_REQUIRE(seen.size() == 200'000);
  bool in_order = true;
  for (int i = 0; i < 200'000; ++i) in_order = in_order && seen[static_cast<size_t>(i)] == i;
  BOOST_TEST(in_order);
}

BOOST_AUTO_TEST_CASE(a_sequencer_brings_what_was_made_side_by_side_into_order_for_an_async_node) {
  using Last = flow::async_node<int, int>;
  Arena arena(4);
  std::unique_ptr<flow::graph> graph;
  arena.arena.execute([&] { graph = std::make_unique<flow::graph>(); });
  flow::function_node<int, int> first{*graph, flow::unlimited, [](int value) noexcept {
                                        if (value % 7 == 0) std::this_thread::yield();
                                        return value;
                                      }};
  flow::sequencer_node<int> order{*graph, [](int value) { return static_cast<size_t>(value); }};
  std::vector<int> seen;
  Last last{*graph, flow::serial,
            [&](int value, Last::gateway_type&) noexcept { seen.push_back(value); }};
  flow::make_edge(first, order);
  flow::make_edge(order, last);
  graph->reserve_wait();
  arena.arena.enqueue([&] {
    for (int i = 0; i < 200'000; ++i) first.try_put(i);
    graph->release_wait();
  });
  graph->wait_for_all();
  BOOST_REQUIRE(seen.size() == 200'000);
  BOOST_TEST(std::is_sorted(seen.begin(), seen.end()));
}

BOOST_AUTO_TEST_CASE(a_key_matching_join_pairs_by_key_whatever_the_order_of_its_ports) {
  flow::graph graph;
  const auto key = [](int value) { return static_cast<uint64_t>(value); };
  flow::join_node<std::tuple<int, int>, flow::key_matching<uint64_t>> join{graph, key, key};
  int pairs = 0;
  bool equal = true;
  flow::function_node<std::tuple<int, int>> last{
      graph, flow::serial, [&](const std::tuple<int, int>& pair) noexcept {
        ++pairs;
        equal = equal && std::get<0>(pair) == std::get<1>(pair);
        return flow::continue_msg();
      }};
  flow::make_edge(join, last);
  for (int i = 0; i < 1000; ++i) flow::input_port<0>(join).try_put(i);
  for (int i = 999; i >= 0; --i) flow::input_port<1>(join).try_put(i);
  graph.wait_for_all();
  BOOST_TEST(pairs == 1000);
  BOOST_TEST(equal);
}

BOOST_AUTO_TEST_CASE(a_gateway_that_is_held_keeps_the_graph_waiting_until_it_is_released) {
  Arena arena(1);
  using Node = flow::async_node<int, int>;
  std::unique_ptr<flow::graph> graph;
  arena.arena.execute([&] { graph = std::make_unique<flow::graph>(); });
  std::thread outside;
  std::atomic<int> sum{0};
  Node node{*graph, flow::serial, [&](int value, Node::gateway_type& gateway) noexcept {
              gateway.reserve_wait();
              outside = std::thread([&, value] {
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
                arena.arena.enqueue([&, value] {
                  gateway.try_put(value);
                  gateway.release_wait();
                });
              });
            }};
  flow::function_node<int> last{*graph, flow::serial, [&](int value) noexcept {
                                  sum += value;
                                  return flow::continue_msg();
                                }};
  flow::make_edge(flow::output_port<0>(node), last);
  graph->reserve_wait();
  arena.arena.enqueue([&] {
    node.try_put(7);
    graph->release_wait();
  });
  graph->wait_for_all();
  BOOST_TEST(sum == 7);
  outside.join();
}
