// labels: kafka slow
// The network between nudge and its broker, cut at each moment of the protocol.
#include <boost/test/unit_test.hpp>

#include "tests/kafka_echo.h"
#include "tests/kafka_trial.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_TEST_GLOBAL_FIXTURE(Tally);

namespace {

struct CutPlace {
  KafkaApi api;
  const char* name;
  bool is_at_start;  // of a process, not once for each commit or fetch
};
constexpr CutPlace kCuts[] = {
    {KafkaApi::kFindCoordinator, "find coordinator", true},
    {KafkaApi::kInitProducerId, "init producer id", true},
    {KafkaApi::kJoinGroup, "join group", true},
    {KafkaApi::kSyncGroup, "sync group", true},
    {KafkaApi::kOffsetFetch, "offset fetch", true},
    {KafkaApi::kListOffsets, "list offsets", true},
    {KafkaApi::kHeartbeat, "heartbeat", false},
    {KafkaApi::kFetch, "fetch", false},
    {KafkaApi::kAddPartitionsToTxn, "add partitions", false},
    {KafkaApi::kProduce, "produce", false},
    {KafkaApi::kAddOffsetsToTxn, "add offsets", false},
    {KafkaApi::kTxnOffsetCommit, "commit offsets", false},
    {KafkaApi::kEndTxn, "end transaction", false},
};
constexpr KafkaProxy::Moment kMoments[] = {KafkaProxy::Moment::kRequest,
                                           KafkaProxy::Moment::kAnswer};

std::string NameOf(const CutPlace& cut, KafkaProxy::Moment moment) {
  return std::string(cut.name) +
         (moment == KafkaProxy::Moment::kRequest ? ", request" : ", answer");
}

KafkaProxy& Proxy() {
  return KafkaBroker::OfTheSuite().proxy();
}

}  // namespace

BOOST_AUTO_TEST_CASE(source_and_sink_go_on_after_a_cut_at_each_moment) {
  KafkaOptions options = Topics("cuts");
  constexpr int kEach = 10;  // in each partition
  int filled = 0;
  for (const CutPlace& cut : kCuts) {
    for (const KafkaProxy::Moment moment : kMoments) {
      BOOST_TEST_CONTEXT(NameOf(cut, moment)) {
        Fill(options, filled, filled + kEach);
        filled += kEach;
        KafkaOptions behind = options;
        behind.brokers = Proxy().address();
        if (cut.is_at_start) Proxy().Arm(cut.api, moment, KafkaProxy::Act::kCut);
        Echo echo(behind);
        if (!cut.is_at_start) {
          echo.Run(kEach, 5);
          Proxy().Arm(cut.api, moment, KafkaProxy::Act::kCut);
        }
        echo.Run(3 * kEach - echo.events, 5);
        BOOST_TEST(echo.PumpUntil([] { return Proxy().bites() > 0; }), "the fault did not bite");
        Tally::Add("source and sink cut: " + NameOf(cut, moment), Proxy().bites(), 0);
      }
    }
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    ExpectOneOutcomeEach(options, partition, filled);
  }
}

BOOST_AUTO_TEST_CASE(a_run_goes_on_after_a_cut_at_each_moment) {
  static const Workload load(77, 300, 9, 3);
  int number = 0;
  for (const CutPlace& cut : kCuts) {
    for (const KafkaProxy::Moment moment : kMoments) {
      BOOST_TEST_CONTEXT(NameOf(cut, moment)) {
        const Trial trial("cut-" + std::to_string(number++), load,
                          {.behind_proxy = true, .publish = false});
        trial.Publish(0, load.size() / 2);
        if (cut.is_at_start) Proxy().Arm(cut.api, moment, KafkaProxy::Act::kCut);
        Process process(trial, "one");
        if (!cut.is_at_start) {
          BOOST_REQUIRE(trial.reader->WaitFor(load.size() / 2));
          Proxy().Arm(cut.api, moment, KafkaProxy::Act::kCut);
        }
        trial.Publish(load.size() / 2, load.size());
        BOOST_TEST(Proxy().WaitForBites(), "the fault did not bite");
        trial.WaitUntilAllIsAnswered();
        const int end = process.Stop();
        BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
        Tally::Add("run cut: " + NameOf(cut, moment), Proxy().bites(), Check(trial));
      }
    }
  }
}

// Connections stay open and nothing moves in them: for a moment, and for longer than the session,
// after which the broker has given up the member.
BOOST_AUTO_TEST_CASE(a_run_goes_on_after_a_network_that_stands_still) {
  static const Workload load(78, 300, 9, 3);
  for (const int seconds : {2, 9}) {
    const std::string name = "still-" + std::to_string(seconds);
    BOOST_TEST_CONTEXT(name) {
      const Trial trial(name, load, {.behind_proxy = true, .publish = false});
      trial.Publish(0, load.size() / 2);
      Process process(trial, "one");
      BOOST_REQUIRE(trial.reader->WaitFor(load.size() / 2));
      Proxy().StandStill();
      trial.Publish(load.size() / 2, load.size());
      std::this_thread::sleep_for(std::chrono::seconds(seconds));
      BOOST_TEST(trial.reader->messages() == load.size() / 2);
      if (seconds > 6) {
        Proxy().CutAll();
      } else {
        BOOST_TEST(Proxy().Release());
      }
      // A member that was given up may find itself fenced by its own return: then it ends with 3,
      // and whoever supervises it starts it again.
      const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
      std::optional<int> end;
      while (!trial.IsAllAnswered() && !(end = process.End()) &&
             std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      if (!end) end = process.Stop();
      BOOST_TEST((*end == 0 || (*end == 3 && seconds > 6)), "ended with " << *end << process.Log());
      Tally::Add(name + " s", 1, *end == 0 ? Check(trial) : FinishAndCheck(trial, "one"));
    }
  }
}
