// labels: kafka slow
// `nudge run` against a real broker, killed at every named place: afterwards the topics hold what
// one run that nobody disturbed would have made. NUDGE_KILLS: how often at each place.
#include <boost/test/unit_test.hpp>

#include <array>

#include "stages/fault_point.h"
#include "tests/kafka_trial.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_TEST_GLOBAL_FIXTURE(Tally);

namespace {

// Workloads of about 900 events over 3 partitions. The largest partition has at least a third of
// them, so it takes at least 6 commits (48 events are in flight) and 7 cuts.
const Workload& Load(int number) {
  static std::map<int, Workload> loads;
  const auto seed = static_cast<uint64_t>(31 + number);
  return loads.try_emplace(number, seed, 900, 9, 3).first->second;
}
constexpr int kLoads = 5;
constexpr int kCommits = 6;

KafkaProxy& Proxy() {
  return KafkaBroker::OfTheSuite().proxy();
}

std::string Suffix(int number) {
  return "-" + std::to_string(number);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_run_that_nobody_disturbs_makes_what_the_oracle_makes) {
  const Trial trial("calm", Load(0));
  BOOST_TEST(FinishAndCheck(trial, "one") == 0U);
  // Stopped cleanly and started again there is nothing left to do.
  BOOST_TEST(FinishAndCheck(trial, "one") == 0U);
}

BOOST_AUTO_TEST_CASE(a_process_killed_at_a_named_place_leaves_no_trace) {
  for (const std::string_view place : kFaultPoints) {
    if (place == "revoke") continue;  // below
    for (int kill = 0; kill < Repetitions(2); ++kill) {
      const std::string name = std::string(place) + Suffix(kill);
      BOOST_TEST_CONTEXT(name) {
        const Trial trial(name, Load(kill % kLoads));
        const bool in_recovery = place == "restore" || place == "replay";
        if (in_recovery) {  // something to restore and to replay: a process dies before its cut
          Process first(trial, "one",
                        "NUDGE_DIE_AT=checkpoint-before:" + std::to_string(3 + kill % 5));
          BOOST_REQUIRE(first.Wait() == -SIGKILL);
        }
        int nth = 1 + 3 * (kill % 5);
        if (place == "restore") nth = 1 + kill % Load(0).partitions();
        if (place.starts_with("commit")) nth = 1 + kill % kCommits;
        {
          Process process(trial, "one",
                          "NUDGE_DIE_AT=" + std::string(place) + ":" + std::to_string(nth));
          BOOST_REQUIRE_MESSAGE(process.Wait() == -SIGKILL, "the fault did not bite");
        }
        Tally::Add("killed: " + std::string(place), 1, FinishAndCheck(trial, "one"));
      }
    }
  }
}

// A commit under way when the process dies: the proxy says which fate it has.
BOOST_AUTO_TEST_CASE(a_process_killed_inside_a_commit_leaves_all_of_it_or_nothing) {
  using enum KafkaProxy::Moment;
  using enum KafkaProxy::Act;
  enum class Then { kNothing, kReleaseBefore, kReleaseAfter };
  struct Fate {
    const char* name;
    KafkaProxy::Moment moment;
    KafkaProxy::Act act;
    Then then;
    bool is_aborted;  // what it sent
  };
  constexpr Fate kFates[] = {
      {"executed", kAnswer, kHold, Then::kNothing, false},
      {"never-arrived", kRequest, kSwallow, Then::kNothing, true},
      {"executed-after-the-death", kRequest, kHold, Then::kReleaseBefore, false},
      {"arrived-too-late", kRequest, kHold, Then::kReleaseAfter, true},
  };
  for (const Fate& fate : kFates) {
    for (int kill = 0; kill < Repetitions(2); ++kill) {
      const std::string name = std::string("commit-") + fate.name + Suffix(kill);
      BOOST_TEST_CONTEXT(name) {
        const Trial trial(name, Load(kill % kLoads), {.behind_proxy = true});
        Proxy().Arm(KafkaApi::kEndTxn, fate.moment, fate.act, 1 + kill % kCommits);
        {
          Process process(trial, "one");
          BOOST_REQUIRE(Proxy().WaitForBites());
          BOOST_TEST(process.Kill());
        }
        // (One that is executed is answered before its markers are in the topics.)
        if (fate.moment == kRequest) {
          BOOST_TEST(HasOpenTransaction(trial.topics, trial.workload.partitions()));
        }
        if (fate.then == Then::kReleaseBefore) BOOST_TEST(Proxy().Release());
        Process successor(trial, "one");
        trial.WaitUntilAllIsAnswered();
        if (fate.then == Then::kReleaseAfter) BOOST_TEST(Proxy().Release());
        BOOST_TEST(successor.Stop() == 0);
        const size_t aborted = Check(trial);
        BOOST_TEST((aborted > 0) == fate.is_aborted);
        Tally::Add(std::string("killed inside a commit: ") + fate.name, 1, aborted);
        Proxy().CutAll();
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(partitions_move_between_processes_and_a_process_killed_while_they_do) {
  for (const bool killed : {false, true}) {
    for (int round = 0; round < (killed ? Repetitions(2) : 1); ++round) {
      const std::string name = (killed ? "moving-killed" : "moving") + Suffix(round);
      BOOST_TEST_CONTEXT(name) {
        const Workload& load = Load(round % kLoads);
        const Trial trial(name, load, {.publish = false});
        trial.Publish(0, load.size() / 2);
        Process first(trial, "one", killed ? "NUDGE_DIE_AT=revoke:1" : "");
        BOOST_REQUIRE(trial.reader->WaitFor(1));  // it has partitions to give away
        Process second(trial, "two");
        trial.Publish(load.size() / 2, load.size());
        if (killed) BOOST_REQUIRE(first.Wait() == -SIGKILL);
        trial.WaitUntilAllIsAnswered();
        BOOST_TEST(second.Stop() == 0);
        if (!killed) BOOST_TEST(first.Stop() == 0);
        const size_t aborted = Check(trial);
        if (killed) Tally::Add("killed: revoke", 1, aborted);
      }
    }
  }
}

// At random places of the protocol, each certain to be met since each round brings work.
BOOST_AUTO_TEST_CASE(a_process_killed_again_and_again_at_random_gets_there) {
  constexpr std::array kApis = {KafkaApi::kProduce,         KafkaApi::kAddPartitionsToTxn,
                                KafkaApi::kAddOffsetsToTxn, KafkaApi::kTxnOffsetCommit,
                                KafkaApi::kEndTxn,          KafkaApi::kFetch};
  constexpr size_t kRounds = 8;
  for (int repetition = 0; repetition < (Repetitions(2) + 3) / 4; ++repetition) {
    const Workload& load = Load(repetition % kLoads);
    const auto seed = static_cast<uint64_t>(repetition);
    const Trial trial("random" + Suffix(repetition), load,
                      {.behind_proxy = true, .publish = false});
    for (size_t round = 0; round < kRounds; ++round) {
      trial.Publish(round * load.size() / kRounds, (round + 1) * load.size() / kRounds);
      const uint64_t random = RandomAt(5 + seed, round);
      Proxy().Arm(kApis[random % kApis.size()],
                  random >> 32 & 1 ? KafkaProxy::Moment::kRequest : KafkaProxy::Moment::kAnswer,
                  KafkaProxy::Act::kHold);
      Process process(trial, "one");
      BOOST_REQUIRE(Proxy().WaitForBites());
      std::this_thread::sleep_for(std::chrono::milliseconds(random >> 40 & 31));
      BOOST_TEST(process.Kill());
      Proxy().CutAll();
    }
    Tally::Add("killed: random protocol moments, again and again", kRounds,
               FinishAndCheck(trial, "one"));
  }
}

BOOST_AUTO_TEST_CASE(a_second_process_of_the_same_name_ends_the_first) {
  const Workload& load = Load(0);
  const Trial trial("twins", load, {.publish = false});
  trial.Publish(0, load.size() / 2);
  Process first(trial, "one");
  BOOST_REQUIRE(trial.reader->WaitFor(1));
  Process second(trial, "one");
  trial.Publish(load.size() / 2, load.size());
  BOOST_TEST(first.Wait() == 3);  // fenced: docs/OPERATING.md
  trial.WaitUntilAllIsAnswered();
  BOOST_TEST(second.Stop() == 0);
  Tally::Add("a second process of the same name", 1, Check(trial));
}

// What a restart costs: from the start of the process to the first outcome that a reader has not
// seen, with the newest events of the state's last cut to be repeated, or with all of them.
BOOST_AUTO_TEST_CASE(a_killed_process_is_back_at_once_and_repeats_faster_than_it_serves) {
  static const Workload load(41, 40'000, 24, 3);
  const size_t first = load.size() - 300;
  double serving_s = 0;  // for the first events
  const auto seconds_since = [](std::chrono::steady_clock::time_point begun) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  std::map<int, double> back_s;  // by events between cuts
  for (const int every : {100, 1'000'000}) {
    const Trial trial("back-" + std::to_string(every), load,
                      {.publish = false,
                       .model = R"("model": {"backend": "template", "template_dimension": 8},
  "checkpoint": {"every_events": )" +
                                std::to_string(every) + "}"});
    {
      Process process(trial, "one");
      process.WaitUntilItServes();
      trial.Publish(0, 300);
      BOOST_REQUIRE(trial.reader->WaitFor(300));
      trial.Publish(300, first);
      const auto begun = std::chrono::steady_clock::now();
      BOOST_REQUIRE(trial.reader->WaitFor(first));
      serving_s = seconds_since(begun);
      BOOST_TEST(process.Kill());
    }
    trial.Publish(first, load.size());
    const auto begun = std::chrono::steady_clock::now();
    Process process(trial, "one");
    BOOST_REQUIRE(trial.reader->WaitFor(first + 1));
    back_s[every] = seconds_since(begun);
    trial.WaitUntilAllIsAnswered();
    BOOST_TEST(process.Stop() == 0);
    Tally::Add("killed: time until it is back", 1, Check(trial));
  }
  const double repeating_s = back_s.rbegin()->second - back_s.begin()->second;
  BOOST_TEST_MESSAGE("first outcome " << back_s.begin()->second << " s after the start; "
                                      << static_cast<double>(first) / serving_s
                                      << " events/s served, "
                                      << static_cast<double>(first) / repeating_s << " repeated");
}
