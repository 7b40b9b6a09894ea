// labels: kafka
// What the sink makes of brokers that go away, come back and stand still.
#include <boost/test/unit_test.hpp>

#include <iterator>
#include <thread>

#include "tests/kafka_echo.h"

namespace nudge {
namespace {

using namespace testing;  // NOLINT

void ExpectOneOutcomeEach(const KafkaOptions& options, int64_t events) {
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    testing::ExpectOneOutcomeEach(options, partition, events);
  }
}

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
  ExpectOneOutcomeEach(options, 60);
}

// Each fate that a commit can have when its answer does not come in time, made to happen exactly.
BOOST_AUTO_TEST_CASE(a_commit_of_unknown_fate_is_settled_by_asking) {
  using enum KafkaProxy::Moment;
  using enum KafkaProxy::Act;
  struct Fate {
    const char* name;
    KafkaProxy::Moment moment;
    KafkaProxy::Act act;
    bool is_executed;
  };
  constexpr Fate kFates[] = {
      {"the broker has done it and its answer is lost", kAnswer, kSwallow, true},
      {"it never arrives", kRequest, kSwallow, false},
      {"it arrives when a new producer has taken over", kRequest, kHold, false},
  };
  constexpr int kEach = 6;
  KafkaProxy& proxy = KafkaBroker::OfTheSuite().proxy();
  KafkaOptions options = Topics("doubt");
  options.brokers = proxy.address();
  options.commit_timeout = std::chrono::milliseconds(2'500);
  constexpr int kEvents = 2 * (2 + 2 * std::ssize(kFates));  // in each partition
  Fill(options, 0, kEvents);
  {
    Echo echo(options);
    echo.Run(2 * kEach, kEach);
    for (const Fate& fate : kFates) {
      BOOST_TEST_CONTEXT(fate.name) {
        const KafkaStatistics before = echo.client.statistics();
        echo.Run(kEach, 10'000);
        proxy.Arm(KafkaApi::kEndTxn, fate.moment, fate.act, 1, KafkaProxy::kForEver);
        const Result<Nothing> cut_short = echo.sink.Commit();
        BOOST_TEST(proxy.bites() > 0);
        proxy.Disarm();
        BOOST_REQUIRE(!cut_short.ok());
        BOOST_TEST((cut_short.error().code == Code::kUnavailable), cut_short.error().message);
        echo.Commit();
        BOOST_TEST(proxy.Release());
        const KafkaStatistics after = echo.client.statistics();
        BOOST_TEST(after.found_committed - before.found_committed == (fate.is_executed ? 1u : 0u));
        BOOST_TEST(after.committed_events - before.committed_events == size_t{kEach});
        echo.Run(kEach, kEach);
      }
    }
  }
  options.brokers = Address();
  ExpectOneOutcomeEach(options, kEvents);
}

// The whole broker stands still for longer than the commit is tried.
BOOST_AUTO_TEST_CASE(a_broker_that_stands_still_through_a_commit_costs_nothing_but_time) {
  KafkaOptions options = Topics("frozen");
  options.session_timeout = std::chrono::milliseconds(45'000);
  options.commit_timeout = std::chrono::milliseconds(2'500);
  Fill(options, 0, 10);
  {
    Echo echo(options);
    echo.Run(15, 5);
    echo.Run(6, 100);
    KafkaBroker::OfTheSuite().Freeze();
    const Result<Nothing> cut_short = echo.sink.Commit();
    KafkaBroker::OfTheSuite().Thaw();
    BOOST_REQUIRE(!cut_short.ok());
    BOOST_TEST((cut_short.error().code == Code::kUnavailable), cut_short.error().message);
    Result<Nothing> committed = echo.sink.Commit();
    for (int i = 0; i < 20 && !committed.ok(); ++i) committed = echo.sink.Commit();
    BOOST_REQUIRE_MESSAGE(committed.ok(), Why(committed));
    echo.Run(9, 3);
  }
  ExpectOneOutcomeEach(options, 10);
}

}  // namespace nudge
