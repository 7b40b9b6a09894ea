// labels: kafka
// `nudge run` while its broker is killed inside the commit of a transaction and comes back, and
// while a transaction lasts too long. NUDGE_KILLS: how often each.
#include <boost/test/unit_test.hpp>

#include <chrono>

#include "tests/kafka_trial.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_TEST_GLOBAL_FIXTURE(Tally);

namespace {

using Milliseconds = std::chrono::milliseconds;
using enum KafkaProxy::Moment;
using enum KafkaProxy::Act;

// After the broker answers again; a hang takes the whole of it.
constexpr std::chrono::seconds kGoesOnWithin{30};

KafkaProxy& Proxy() {
  return KafkaBroker::OfTheSuite().proxy();
}

// The workload, a part of it each round, while one process serves.
class WorkRounds {
 public:
  WorkRounds(const Trial& trial, int count)
      : trial_(trial), count_(static_cast<size_t>(count) + 1) {
    Publish();
  }
  void Publish() {
    const size_t end = trial_.workload.size() * ++parts_ / count_;
    trial_.Publish(published_, end);
    published_ = end;
  }
  bool IsWorkWaiting() const { return trial_.reader->messages() < published_; }

  // Seconds until all that was published is answered.
  double WaitUntilAnswered(Process& process) const {
    const auto begun = std::chrono::steady_clock::now();
    while (IsWorkWaiting() && std::chrono::steady_clock::now() < begun + kGoesOnWithin) {
      const std::optional<int> end = process.End();
      BOOST_REQUIRE_MESSAGE(!end, "ended with " << *end << ": " << process.Log());
      std::this_thread::sleep_for(Milliseconds(5));
    }
    BOOST_REQUIRE_MESSAGE(!IsWorkWaiting(), "outcomes are missing: " << trial_.reader->messages()
                                                                     << " of " << published_ << ": "
                                                                     << process.Log());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  }

 private:
  const Trial& trial_;
  const size_t count_;
  size_t parts_ = 0;
  size_t published_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_broker_killed_inside_a_commit_costs_a_run_nothing_but_time) {
  struct Fate {
    const char* name;
    KafkaProxy::Moment moment;
    KafkaProxy::Act act;
  };
  constexpr Fate kFates[] = {
      {"carried out, its answer lost", kAnswer, kHold},
      {"never arrived", kRequest, kHold},
      {"just arrived", kRequest, kWatch},
  };
  const int rounds = Repetitions(2);
  static const Workload load(95, 200 * (static_cast<uint64_t>(rounds) + 1), 9, 3);
  for (const Fate& fate : kFates) {
    BOOST_TEST_CONTEXT(fate.name) {
      const Trial trial(
          "crash-" + std::to_string(&fate - kFates), load,
          {.behind_proxy = true, .publish = false, .session_timeout = Milliseconds(45'000)});
      WorkRounds work(trial, rounds);
      Process process(trial, "one");
      work.WaitUntilAnswered(process);
      double slowest_s = 0;
      for (int round = 0; round < rounds; ++round) {
        Proxy().Arm(KafkaApi::kEndTxn, fate.moment, fate.act);
        work.Publish();
        BOOST_REQUIRE(Proxy().WaitForBites());
        BOOST_TEST(work.IsWorkWaiting());
        KafkaBroker::OfTheSuite().Kill();
        Proxy().CutAll();
        KafkaBroker::OfTheSuite().Start();
        slowest_s = std::max(slowest_s, work.WaitUntilAnswered(process));
      }
      BOOST_TEST_MESSAGE(fate.name << ": goes on within " << slowest_s << " s");
      const int end = process.Stop();
      BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
      Tally::Add(std::string("broker killed in a commit: ") + fate.name, rounds, Check(trial));
    }
  }
}

// The broker cannot be reached until it has ended the open transaction by itself, which fences its
// producer as a rival would.
BOOST_AUTO_TEST_CASE(a_transaction_that_lasts_too_long_is_sent_again) {
  const int rounds = Repetitions(2);
  static const Workload load(96, 200 * (static_cast<uint64_t>(rounds) + 1), 9, 3);
  const Trial trial("too-long", load,
                    {.behind_proxy = true,
                     .publish = false,
                     .session_timeout = Milliseconds(45'000),
                     .transaction_timeout = Milliseconds(1'000)});
  WorkRounds work(trial, rounds);
  Process process(trial, "one");
  work.WaitUntilAnswered(process);
  double slowest_s = 0;
  for (int round = 0; round < rounds; ++round) {
    Proxy().Arm(KafkaApi::kEndTxn, kRequest, kHold);
    work.Publish();
    BOOST_REQUIRE(Proxy().WaitForBites());
    BOOST_TEST(HasOpenTransaction(trial.topics, load.partitions()));
    Proxy().CutAll(true);
    const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
    while (HasOpenTransaction(trial.topics, load.partitions())) {
      BOOST_REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::sleep_for(Milliseconds(50));
    }
    BOOST_TEST(work.IsWorkWaiting());
    Proxy().Admit();
    slowest_s = std::max(slowest_s, work.WaitUntilAnswered(process));
  }
  BOOST_TEST_MESSAGE("goes on within " << slowest_s << " s");
  const int end = process.Stop();
  BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
  const size_t aborted = Check(trial);
  BOOST_TEST(aborted > 0);
  Tally::Add("transaction ended by its brokers", rounds, aborted);
}
