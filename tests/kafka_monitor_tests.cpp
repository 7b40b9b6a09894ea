// labels: kafka
// What a run over live topics says of itself while its broker comes and goes.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/kafka_echo.h"
#include "tests/monitor_page.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_AUTO_TEST_CASE(a_run_is_ready_while_it_has_its_partitions_and_a_broker) {
  KafkaBroker broker;
  KafkaOptions options = OptionsFor(broker.address(), "watched");
  options.session_timeout = std::chrono::milliseconds(45'000);
  const Result<Nothing> created = CreateTopics(options, kPartitions, 1);
  BOOST_REQUIRE_MESSAGE(created.ok(), Why(created));
  Fill(options, 0, 10);  // no events: each becomes a dead letter

  KafkaClient client(options);
  KafkaSink sink(client);
  KafkaSource source(client);
  const std::unique_ptr<Backend> backend = MakeTemplateBackend({.dimension = 0});
  Processor processor({}, {}, *backend, source, sink);
  Monitor monitor(kLoopback, 0);
  std::atomic<bool> stop{false};
  std::atomic<bool> is_good{false};
  {
    const Monitor::Watch watch(monitor, [&] {
      RunView view = processor.View();
      view.kafka = {options.group_id, options.instance_id, options.input_topic,
                    client.statistics()};
      return view;
    });
    BOOST_TEST(Holds(WaitForPage(monitor, "/readyz", 503), "starting"));
    std::thread run([&] { is_good = processor.Run(stop).ok(); });
    WaitForPage(monitor, "/readyz", 200);

    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    nlohmann::json status;
    const auto is_done = [&] {  // an outcome is counted before it is committed
      const auto& partitions = status["partitions"];
      return status["outcomes"]["dead_letters"] == 10 * kPartitions &&
             std::all_of(partitions.begin(), partitions.end(), [](const nlohmann::json& partition) {
               return partition["committed_offset"] == 10;
             });
    };
    do {
      status = nlohmann::json::parse(Ask(monitor, "/status").body);
    } while (!is_done() && std::chrono::steady_clock::now() < deadline);
    BOOST_TEST(status["partitions"].size() == static_cast<size_t>(kPartitions));
    for (const auto& partition : status["partitions"]) {
      BOOST_TEST(partition["committed_offset"] == 10);
      BOOST_TEST(partition["lag_events"].is_number());
    }
    BOOST_TEST(status["kafka"]["brokers_up"] == 1);

    broker.Stop();
    BOOST_TEST(Holds(WaitForPage(monitor, "/readyz", 503), "no broker can be reached"));
    broker.Start();
    WaitForPage(monitor, "/readyz", 200);
    stop = true;
    run.join();
  }
  BOOST_TEST(is_good.load());
  BOOST_TEST(Ask(monitor, "/readyz").body == "starting\n");  // there is no run to see any more
}
