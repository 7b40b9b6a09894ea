// labels: kafka slow
// No call into librdkafka holds a run for ever: one that stands ends the process, and brokers that
// stand still end the commit. A process that is started again goes on as if nothing had been.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <memory>
#include <vector>

#include "connectors/bounded_call.h"
#include "tests/kafka_trial.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;
using enum KafkaProxy::Moment;
using enum KafkaProxy::Act;

constexpr Milliseconds kCommit{3'000};
constexpr Milliseconds kSession{6'000};
// What a machine that others use too may add: to start, to hear of it, to end.
constexpr std::chrono::seconds kBusy{15};

KafkaProxy& Proxy() {
  return KafkaBroker::OfTheSuite().proxy();
}

const Workload& Load() {
  static const Workload load(31, 500, 9, 3);
  return load;
}

double SecondsSince(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

// A call that stands from its nth time on, and how long it may.
struct Standing {
  const char* name;
  int nth;
  std::chrono::seconds limit;
};
constexpr std::chrono::seconds kGrace{10};
constexpr std::chrono::seconds kUntimed{30};
constexpr Standing kStanding[] = {
    {"rd_kafka_new", 2, kUntimed + kGrace},
    {"rd_kafka_metadata", 1, std::chrono::seconds(1) + kGrace},
    {"rd_kafka_queue_poll", 1, std::chrono::seconds(3) + 2 * kGrace},
    {"rd_kafka_init_transactions", 1, std::chrono::seconds(15) + kGrace},
    {"rd_kafka_subscribe", 1, kUntimed + kGrace},
    {"rd_kafka_consumer_poll", 5, kUntimed + kGrace},
    {"rd_kafka_consumer_group_metadata", 1, kUntimed + kGrace},
    {"rd_kafka_committed", 1, std::chrono::seconds(50) + kGrace},
    {"rd_kafka_query_watermark_offsets", 1, std::chrono::seconds(15) + kGrace},
    {"rd_kafka_assign", 1, kUntimed + kGrace},
    {"rd_kafka_begin_transaction", 2, std::chrono::seconds(3) + kGrace},
    {"rd_kafka_produceva", 2, std::chrono::seconds(3) + kGrace},
    {"rd_kafka_send_offsets_to_transaction", 2, std::chrono::seconds(3) + kGrace},
    {"rd_kafka_commit_transaction", 2, std::chrono::seconds(3) + kGrace},
    {"rd_kafka_consumer_close", 1, std::chrono::seconds(6) + kGrace},
    {"rd_kafka_destroy", 2, kUntimed + kGrace},
};

// A process that stands in a call, from its start.
struct Stuck {
  explicit Stuck(const Standing& standing, TrialOptions options = {})
      : call(standing),
        trial("stands-in-" + std::string(standing.name), Load(), std::move(options)),
        process(trial, "one",
                "NUDGE_STAND_IN=" + std::string(call.name) + ":" + std::to_string(call.nth)) {}

  void ExpectEnd() {
    const int end = process.Wait();
    BOOST_TEST(end == kExitStuck, "ended with " << end << ": " << process.Log());
    const std::string log = process.Log();
    const std::string said = std::string(call.name) + " has stood for ";
    const size_t at = log.find(said);
    BOOST_REQUIRE_MESSAGE(at != log.npos, log);
    const double stood = std::stod(log.substr(at + said.size()));
    BOOST_TEST(stood <= static_cast<double>((call.limit + kBusy).count()));
    BOOST_TEST(log.find("give the same command again") != log.npos);
    BOOST_TEST_MESSAGE(call.name << " stood for " << stood << " s");
  }

  const Standing call;
  const Trial trial;
  Process process;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_call_that_stands_ends_the_run_and_the_next_one_goes_on) {
  std::vector<std::unique_ptr<Stuck>> all;  // side by side: most of it is waiting
  for (const Standing& standing : kStanding) {
    all.push_back(std::make_unique<Stuck>(
        standing, TrialOptions{.session_timeout = kSession, .commit_timeout = kCommit}));
  }
  for (const auto& stuck : all) {
    BOOST_TEST_CONTEXT(stuck->call.name) {
      const std::string name = stuck->call.name;
      if (name == "rd_kafka_consumer_close" || name == "rd_kafka_destroy") {
        stuck->trial.WaitUntilAllIsAnswered();
        stuck->process.Signal(SIGTERM);
      }
      stuck->ExpectEnd();
      FinishAndCheck(stuck->trial, "one");
    }
  }
}

BOOST_AUTO_TEST_CASE(an_abort_that_stands_ends_the_run_and_the_next_one_goes_on) {
  Stuck stuck({"rd_kafka_abort_transaction", 1, std::chrono::seconds(0) + kGrace},
              {.behind_proxy = true,
               .publish = false,
               .session_timeout = kSession,
               .commit_timeout = kCommit});
  stuck.process.WaitUntilItServes();
  Proxy().Arm(KafkaApi::kTxnOffsetCommit, kRequest, kSwallow, 1, KafkaProxy::kForEver);
  stuck.trial.Publish(0, Load().size());
  stuck.ExpectEnd();
  BOOST_TEST(Proxy().bites() > 0);
  Proxy().CutAll();
  FinishAndCheck(stuck.trial, "one");
}

namespace {

// A request of a commit at which the coordinator is held, by name of the call that sends it.
struct Held {
  const char* call;
  KafkaApi api;
};
constexpr Held kHeld[] = {
    {"produce: the partitions", KafkaApi::kAddPartitionsToTxn},
    {"produce", KafkaApi::kProduce},
    {"send offsets: to the transaction's coordinator", KafkaApi::kAddOffsetsToTxn},
    {"send offsets: to the group's coordinator", KafkaApi::kTxnOffsetCommit},
    {"commit", KafkaApi::kEndTxn},
};

// The process ends with that code within the time that it has for a commit.
void ExpectEndInTime(Process& process, int code, std::chrono::milliseconds limit) {
  const auto begun = Clock::now();
  const int end = process.Wait();
  const double took = SecondsSince(begun);
  BOOST_TEST(end == code, "ended with " << end << ": " << process.Log());
  BOOST_TEST(took <= std::chrono::duration<double>(limit + kBusy).count());
  BOOST_TEST(process.Log().find("cannot ") != std::string::npos, process.Log());
  BOOST_TEST_MESSAGE("ended after " << took << " s");
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_coordinator_that_is_held_ends_a_commit_at_each_of_its_requests_in_time) {
  for (const bool all_stands : {false, true}) {
    for (const Held& held : kHeld) {
      BOOST_TEST_CONTEXT(held.call << (all_stands ? ", and all stands still" : ", swallowed")) {
        const Trial trial("held-" + std::to_string(&held - kHeld) + (all_stands ? "-all" : ""),
                          Load(),
                          {.behind_proxy = true,
                           .publish = false,
                           .session_timeout = Milliseconds(45'000),
                           .commit_timeout = kCommit});
        Process process(trial, "one");
        process.WaitUntilItServes();
        trial.Publish(0, 30);
        BOOST_REQUIRE(trial.reader->WaitFor(30));
        Proxy().Arm(held.api, kRequest, kSwallow, 1, KafkaProxy::kForEver);
        trial.Publish(30, 60);
        BOOST_REQUIRE(Proxy().WaitForBites());
        if (all_stands) Proxy().StandStill();
        ExpectEndInTime(process, kExitUnavailable, kCommit);
        Proxy().CutAll();
        trial.Publish(60, Load().size());
        FinishAndCheck(trial, "one");
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_coordinator_that_is_held_at_the_start_ends_it_in_time) {
  for (const KafkaApi api : {KafkaApi::kInitProducerId, KafkaApi::kFindCoordinator}) {
    BOOST_TEST_CONTEXT("API " << static_cast<int>(api)) {
      const Trial trial("held-start-" + std::to_string(static_cast<int>(api)), Load(),
                        {.behind_proxy = true, .session_timeout = kSession});
      Proxy().Arm(api, kRequest, kSwallow, 1, KafkaProxy::kForEver);
      Process process(trial, "one");
      ExpectEndInTime(process, kExitUsage, Milliseconds(15'000));
      BOOST_TEST(Proxy().bites() > 0);
      Proxy().CutAll();
      FinishAndCheck(trial, "one");
    }
  }
}

// The group's coordinator is not known any more and nobody says who it is: librdkafka would wait
// for an answer for ever.
BOOST_AUTO_TEST_CASE(a_group_without_a_coordinator_ends_a_commit_in_time) {
  const Trial trial("nobody", Load(),
                    {.behind_proxy = true,
                     .publish = false,
                     .session_timeout = Milliseconds(45'000),
                     .commit_timeout = kCommit});
  Proxy().Arm(KafkaApi::kSyncGroup, kAnswer, kWatch);
  Process process(trial, "one");
  BOOST_REQUIRE(Proxy().WaitForBites());  // who reads knows its coordinator, who commits does not
  process.WaitUntilItServes();
  Proxy().Arm(KafkaApi::kFindCoordinator, kRequest, kSwallow, 1, KafkaProxy::kForEver);
  trial.Publish(0, 60);  // the first commit has to ask who it is
  BOOST_REQUIRE(Proxy().WaitForBites());
  ExpectEndInTime(process, kExitUnavailable, kCommit);
  Proxy().CutAll();
  trial.Publish(60, Load().size());
  FinishAndCheck(trial, "one");
}

// Nobody takes the process into its group: nothing is read, which looks like an idle topic.
BOOST_AUTO_TEST_CASE(a_group_that_takes_nobody_in_is_told_and_waited_for) {
  const Trial trial("left-out", Load(), {.behind_proxy = true, .session_timeout = kSession});
  Proxy().Arm(KafkaApi::kJoinGroup, kRequest, kSwallow, 1, KafkaProxy::kForEver);
  Process process(trial, "one");
  process.WaitUntilItServes();
  const auto deadline = Clock::now() + kSession + kBusy;
  while (process.Log().find("has given this process no partitions for 6 s") == std::string::npos) {
    BOOST_REQUIRE_MESSAGE(Clock::now() < deadline, process.Log());
    std::this_thread::sleep_for(Milliseconds(50));
  }
  Proxy().CutAll();
  trial.WaitUntilAllIsAnswered();
  BOOST_TEST(process.Stop() == 0);
  Check(trial);
}
