// labels: kafka
// What the sink makes of brokers that go away, come back and stand still.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <thread>

#include "tests/kafka_echo.h"

namespace nudge {
namespace {

using namespace testing;  // NOLINT

}  // namespace

BOOST_AUTO_TEST_CASE(a_broker_that_restarts_costs_nothing_but_time) {
  KafkaOptions options = Topics("outage");
  options.session_timeout = std::chrono::milliseconds(45'000);
  Fill(options, 0, 60);
  {
    Echo echo(options);
    echo.Run(40, 20);
    echo.Run(10, 100);
    KafkaBroker::OfTheSuite().Stop();
    std::thread starter([] { KafkaBroker::OfTheSuite().Start(); });
    echo.Commit();
    starter.join();
    echo.Run(130, 10);
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, 60);
  }
}

// The broker is frozen in the middle of a commit, for longer than the commit is tried. What it has
// received by then it does when it thaws. The moment is moved towards where that includes the
// commit.
BOOST_AUTO_TEST_CASE(a_commit_of_unknown_fate_is_settled_by_asking) {
  KafkaOptions options = Topics("doubt");
  options.session_timeout = std::chrono::milliseconds(45'000);
  options.commit_timeout = std::chrono::milliseconds(2'500);
  constexpr int kRounds = 24;
  constexpr int kEach = 6;
  Fill(options, 0, (kRounds + 2) * kEach / kPartitions);
  int rounds = 0;
  {
    Echo echo(options);
    echo.Run(2 * kEach, kEach);
    double early_ms = 0;
    double late_ms = 2 * echo.client.statistics().commit_ms;
    uint64_t found = 0;
    uint64_t sent_again = 0;
    for (; rounds < kRounds && (found == 0 || sent_again == 0); ++rounds) {
      echo.Run(kEach, 10'000);
      const double delay_ms = (early_ms + late_ms) / 2;
      std::thread freezer([&] {
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(delay_ms));
        KafkaBroker::OfTheSuite().Freeze();
      });
      const Result<Nothing> cut_short = echo.sink.Commit();
      freezer.join();
      KafkaBroker::OfTheSuite().Thaw();
      if (cut_short.ok()) {
        late_ms = std::max(delay_ms, early_ms + 1);
        continue;
      }
      BOOST_TEST((cut_short.error().code == Code::kUnavailable), cut_short.error().message);
      Result<Nothing> committed = echo.sink.Commit();
      for (int i = 0; i < 20 && !committed.ok(); ++i) committed = echo.sink.Commit();
      BOOST_REQUIRE_MESSAGE(committed.ok(), Why(committed));
      const uint64_t before = found;
      found = echo.client.statistics().found_committed;
      if (found > before) continue;
      ++sent_again;
      early_ms = delay_ms;
      late_ms = std::max(late_ms, early_ms + 5);
    }
    BOOST_TEST_MESSAGE(rounds << " rounds: " << found << " commits had succeeded, " << sent_again
                              << " were sent again");
    BOOST_TEST(found > 0u);  // else the test proves nothing
    BOOST_TEST(sent_again > 0u);
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    KafkaClient client(options);
    KafkaSink sink(client);
    int64_t outcomes = 0;
    const Result<Nothing> read = sink.ReadBack(partition, 0, [&](std::string_view) {
      ++outcomes;
      return Result<Nothing>(Nothing{});
    });
    BOOST_TEST(read.ok(), Why(read));
    const Result<std::optional<Tail>> tail = sink.Last(partition);
    BOOST_REQUIRE(tail.ok());
    if (!*tail) continue;
    BOOST_TEST(outcomes == (*tail)->offset + 1);
    size_t visible = 0;
    for (const std::string& topic :
         {options.response_topic, options.receipt_topic, options.dead_letter_topic}) {
      visible += ReadAll(options.brokers, topic, partition).size();
    }
    BOOST_TEST(visible == static_cast<size_t>(outcomes));
  }
}

}  // namespace nudge
