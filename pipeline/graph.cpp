#include "pipeline/graph.h"

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <memory>
#include <tuple>
#include <utility>

#include "pipeline/graph_bodies.h"
#include "pipeline/key_order.h"
#include "stages/guarded.h"

namespace nudge {
namespace flow = oneapi::tbb::flow;
using oneapi::tbb::task_arena;

namespace {

// ---- Kinds of nodes, made of a body: RunStage keeps errors inside, so that none throws ----------

template <class Body>
struct Signature;
template <class From, class To>
struct Signature<Batch<To> (GraphBodies::*)(const Batch<From>&)> {
  using In = From;
  using Out = To;
};
template <class From, class To>
struct Signature<Batch<To> (GraphBodies::*)(const Batch<From>&, const PutLater<To>&)> {
  using In = From;
  using Out = To;
};
template <auto kBody>
using In = Batch<typename Signature<decltype(kBody)>::In>;
template <auto kBody>
using Out = Batch<typename Signature<decltype(kBody)>::Out>;

// Any number of batches at a time.
template <auto kBody>
struct Parallel : flow::function_node<In<kBody>, Out<kBody>> {
  Parallel(flow::graph& graph, GraphBodies& bodies)
      : flow::function_node<In<kBody>, Out<kBody>>(
            graph, flow::unlimited,
            [&bodies](const In<kBody>& in) noexcept { return (bodies.*kBody)(in); }) {}
};

// One batch at a time, first in, first out. It puts from inside of its body: a function_node takes
// the next batch before it puts, and so could be overtaken.
template <class From, class To>
using PuttingNode = flow::multifunction_node<From, std::tuple<To>>;
template <auto kBody>
struct Serial : PuttingNode<In<kBody>, Out<kBody>> {
  Serial(flow::graph& graph, GraphBodies& bodies)
      : PuttingNode<In<kBody>, Out<kBody>>(graph, flow::serial,
                                           [&bodies](const In<kBody>& in, auto& ports) noexcept {
                                             std::get<0>(ports).try_put((bodies.*kBody)(in));
                                           }) {}
};

// Keeps the graph alive for messages that executor threads will put. Released with the last copy,
// so a job that is abandoned does not hold the graph for ever.
template <class Gateway>
class Hold : public std::enable_shared_from_this<Hold<Gateway>> {
 public:
  Hold(task_arena& arena, Gateway& gateway) : arena_(arena), gateway_(gateway) {
    gateway_.reserve_wait();
  }
  ~Hold() { gateway_.release_wait(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  template <class T>
  void Put(const Message<T>& message) {
    arena_.enqueue([hold = this->shared_from_this(), message] {
      hold->gateway_.try_put({0, std::make_shared<std::vector<Message<T>>>(1, message)});
    });
  }

 private:
  task_arena& arena_;
  Gateway& gateway_;
};

// Its work may end later, on a thread of the executor: then a message goes on alone, behind others.
template <auto kBody>
struct Async : flow::async_node<In<kBody>, Out<kBody>> {
  Async(flow::graph& graph, GraphBodies& bodies, task_arena& arena, size_t batches_at_a_time)
      : flow::async_node<In<kBody>, Out<kBody>>(
            graph, batches_at_a_time, [&](const In<kBody>& in, auto& gateway) noexcept {
              using Gateway = std::remove_reference_t<decltype(gateway)>;
              const auto hold = std::make_shared<Hold<Gateway>>(arena, gateway);
              const Out<kBody> ready =
                  (bodies.*kBody)(in, [hold](const auto& message) { hold->Put(message); });
              if (!ready.messages->empty()) gateway.try_put(ready);
            }) {}
};

// Puts messages back into log order, and those that are next into one batch. Partitions come and go
// while its node runs.
template <class T>
struct Order {
  explicit Order(flow::graph& graph)
      : node(graph, flow::serial, [this](const Batch<T>& in, auto& ports) noexcept {
          const auto next = std::make_shared<std::vector<Message<T>>>();
          {
            const MutexLock lock(mutex);
            next->reserve(in.messages->size());
            for (const Message<T>& message : *in.messages) {
              if (message.abandoned()) continue;
              order.Put(message, [&](const Message<T>& ready) { next->push_back(ready); });
            }
          }
          if (!next->empty()) std::get<0>(ports).try_put(Batch<T>{batches++, next});
        }) {}
  void Start(int32_t partition, uint64_t next_ordinal) {
    const MutexLock lock(mutex);
    order.Start(partition, next_ordinal);
  }
  void Drop(int32_t partition) {
    const MutexLock lock(mutex);
    order.Drop(partition);
  }
  std::optional<uint64_t> Next(int32_t partition) {
    const MutexLock lock(mutex);
    return order.Next(partition);
  }
  Mutex mutex;
  KeyedOrder<Message<T>> order GUARDED_BY(mutex);
  uint64_t batches = 0;
  PuttingNode<Batch<T>, Batch<T>> node;
};

// The number of a batch behind the log order: the join pairs by it, and what it joins is sorted by
// it.
struct ByNumber {
  template <class T>
  uint64_t operator()(const Batch<T>& batch) const {
    return batch.number;
  }
};
struct Join : flow::join_node<Branches, flow::key_matching<uint64_t>> {
  explicit Join(flow::graph& graph)
      : flow::join_node<Branches, flow::key_matching<uint64_t>>(graph, ByNumber{}, ByNumber{},
                                                                ByNumber{}) {}
};
struct Gatherer : flow::function_node<Branches, Batch<Gathered>> {
  explicit Gatherer(flow::graph& graph)
      : flow::function_node<Branches, Batch<Gathered>>(
            graph, flow::unlimited,
            [](const Branches& in) noexcept { return GraphBodies::Gather(in); }) {}
};
struct NumberOrder : flow::sequencer_node<Batch<Gathered>> {
  explicit NumberOrder(flow::graph& graph)
      : flow::sequencer_node<Batch<Gathered>>(graph, ByNumber{}) {}
};
struct Emitter : flow::function_node<Batch<OutcomeLine>> {
  Emitter(flow::graph& graph, GraphBodies& bodies)
      : flow::function_node<Batch<OutcomeLine>>(graph, flow::serial,
                                                [&bodies](const Batch<OutcomeLine>& in) noexcept {
                                                  bodies.Emit(in);
                                                  return flow::continue_msg();
                                                }) {}
};

// ---- Edges --------------------------------------------------------------------------------------

template <class Node>
auto& OutOf(Node& node) {
  if constexpr (requires { node.order; }) {
    return flow::output_port<0>(node.node);
  } else if constexpr (requires { node.output_ports(); }) {
    return flow::output_port<0>(node);
  } else {
    return node;
  }
}
template <class Node>
auto& InTo(Node& node) {
  if constexpr (requires { node.order; }) {
    return node.node;
  } else {
    return node;
  }
}
template <class From, class To>
void Edge(From& from, To& to) {
  flow::make_edge(OutOf(from), InTo(to));
}

}  // namespace

// ---- The figure: its nodes, then its edges ------------------------------------------------------

struct Graph::Wiring {
  using Bodies = GraphBodies;

  Bodies bodies;
  task_arena& arena;
  flow::graph graph;  // runs in the arena in which it is made

  // clang-format off
  // each node: batches at a time | state | what a message may wait for
  Parallel<&Bodies::Decode> decode{graph, bodies};          // many | none | nothing
  Async<&Bodies::Prepare> prepare{graph, bodies, arena, flow::unlimited};  // many | none | vectors
  Order<Prepared> log_order{graph};                         // one | early messages | its turn
  Serial<&Bodies::Recall> recall{graph, bodies};            // one | identities, queries | nothing
  Serial<&Bodies::Index> index{graph, bodies};              // one | documents, vectors | nothing
  Serial<&Bodies::Adapt> adapt{graph, bodies};              // one | versions, steps | nothing
  Serial<&Bodies::Prompt> prompt{graph, bodies};            // one | arms, examples | nothing
  Join join{graph};                                         // one | unpaired batches | its pairs
  Gatherer gather{graph};                                   // many | none | nothing
  NumberOrder gather_order{graph};                          // one | early batches | its turn
  Async<&Bodies::Respond> respond{graph, bodies, arena, flow::serial};  // one | records | models
  Parallel<&Bodies::Encode> encode{graph, bodies};          // many | none | nothing
  Order<OutcomeLine> line_order{graph};                     // one | early messages | its turn
  Emitter emit{graph, bodies};                              // one | chains | nothing
  // clang-format on

  Wiring(Stages stages, Executor& executor, GraphOptions options, GraphMetrics& metrics,
         task_arena& arena_in)
      : bodies(stages, executor, std::move(options), metrics), arena(arena_in) {
    Edge(decode, prepare);
    Edge(prepare, log_order);
    Edge(log_order, recall);

    Edge(recall, index);
    Edge(recall, adapt);
    Edge(index, prompt);

    Edge(index, flow::input_port<0>(join));
    Edge(adapt, flow::input_port<1>(join));
    Edge(prompt, flow::input_port<2>(join));

    Edge(join, gather);
    Edge(gather, gather_order);
    Edge(gather_order, respond);
    Edge(respond, encode);
    Edge(encode, line_order);
    Edge(line_order, emit);
  }
};

// ---- The graph from outside ---------------------------------------------------------------------

// `threads` workers for the graph alone, and a place for whoever waits for it: the pusher lends no
// thread, so that it may block on credits. Everything from outside enters by `enqueue`, which wakes
// a worker for certain; try_put from a thread outside of the arena does not (it hung in one run of
// four). The place is reserved for the thread that waits, because a worker that waits takes none of
// the tasks that were enqueued. Made before the wiring, whose graph runs in it.
struct Graph::Arena {
  explicit Arena(int threads)
      : control(oneapi::tbb::global_control::max_allowed_parallelism,
                static_cast<size_t>(threads) + 1),
        arena(threads + 1, 1) {}
  oneapi::tbb::global_control control;
  task_arena arena;
};

Graph::Graph(Stages stages, Executor& executor, GraphOptions options, GraphMetrics& metrics)
    : arena_(std::make_unique<Arena>(options.threads)) {
  arena_->arena.execute([&] {
    wiring_ =
        std::make_unique<Wiring>(stages, executor, std::move(options), metrics, arena_->arena);
  });
}

Graph::~Graph() {
  WaitForAll();
}

void Graph::Start(int32_t partition, uint64_t events, int64_t next_offset,
                  const Sha256Digest& chain) {
  wiring_->log_order.Start(partition, events);
  wiring_->line_order.Start(partition, events);
  wiring_->bodies.Start(partition, events, next_offset, chain);
}

Result<Nothing> Graph::Load(int32_t partition, Change entry) {
  return wiring_->bodies.Load(partition, std::move(entry));
}

void Graph::Drop(int32_t partition) {
  wiring_->log_order.Drop(partition);
  wiring_->bodies.Drop(partition);
  wiring_->line_order.Drop(partition);
}

void Graph::AddTo(int32_t partition, const std::shared_ptr<Barrier>& barrier) {
  wiring_->bodies.AddTo(partition, barrier);
}

void Graph::Push(std::vector<Arrival> arrivals) {
  static const auto kReceived = std::make_shared<const Received>();
  ENSURE(!arrivals.empty());
  const auto messages = std::make_shared<std::vector<Message<Received>>>();
  messages->reserve(arrivals.size());
  for (Arrival& arrival : arrivals) {
    messages->push_back({std::move(arrival.origin), kReceived, nullptr, std::move(arrival.barrier),
                         std::move(arrival.recorded)});
    if (!arrival.refusal) continue;
    messages->back().fault =
        std::make_shared<const Fault>(Fault{"source", std::move(*arrival.refusal)});
  }
  // The graph does not count an enqueued task before it runs, and might be found done until then.
  // So the batch holds it.
  wiring_->graph.reserve_wait();
  arena_->arena.enqueue([this, messages] {
    wiring_->decode.try_put({0, messages});
    wiring_->graph.release_wait();
  });
}

Graph::Place Graph::PlaceOf(int32_t partition, uint64_t ordinal) const {
  const auto line = wiring_->line_order.Next(partition);
  if (!line) return Place::kUnknown;
  if (*line > ordinal) return Place::kOutbox;
  if (wiring_->bodies.NextAtRespond(partition) > ordinal) return Place::kBeforeEmit;
  const auto logged = wiring_->log_order.Next(partition);
  return logged && *logged > ordinal ? Place::kBeforeRespond : Place::kBeforeRecall;
}

void Graph::WaitForAll() {
  wiring_->graph.wait_for_all();
}

}  // namespace nudge
