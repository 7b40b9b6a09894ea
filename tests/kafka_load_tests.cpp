// labels: kafka long
// `nudge run` under load, while processes are killed, stopped, join and leave, and the
// broker goes away. NUDGE_KILLS: how much of each.
#include <boost/test/unit_test.hpp>

#include <memory>

#include "tests/kafka_trial.h"
#include "tests/monitor_page.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_TEST_GLOBAL_FIXTURE(Tally);

namespace {

constexpr const char* kNames[] = {"one", "two", "three"};
using Milliseconds = std::chrono::milliseconds;

KafkaProxy& Proxy() {
  return KafkaBroker::OfTheSuite().proxy();
}

// The load, published in `parts` equal parts.
class Portions {
 public:
  Portions(const Trial& trial, int parts) : trial_(trial), parts_(static_cast<size_t>(parts)) {}
  void Next() {
    const size_t end = trial_.workload.size() * ++part_ / parts_;
    trial_.Publish(published_, end);
    published_ = end;
  }
  size_t published() const { return published_; }
  bool IsWorkWaiting() const { return trial_.reader->messages() < published_; }
  void WaitUntilAnswered() const {
    BOOST_REQUIRE_MESSAGE(
        trial_.reader->WaitFor(published_),
        "outcomes are missing: " << trial_.reader->messages() << " of " << published_);
  }

 private:
  const Trial& trial_;
  const size_t parts_;
  size_t part_ = 0;
  size_t published_ = 0;
};

// Processes of one group: which live is up to the test.
class Group {
 public:
  explicit Group(const Trial& trial) : trial_(trial) {}
  Process& Start(const std::string& name) {
    auto& process = processes_[name];
    if (!process) process = std::make_unique<Process>(trial_, name);
    return *process;
  }
  bool Kill(const std::string& name) {
    const bool killed = processes_.at(name)->Kill();
    processes_.erase(name);
    return killed;
  }
  void Stop(const std::string& name) {
    Process& process = *processes_.at(name);
    process.WaitUntilItServes();
    const int end = process.Stop();
    BOOST_TEST(end == 0, name << " ended with " << end << ": " << process.Log());
    processes_.erase(name);
  }
  // Whoever was away for too long and ended by itself, which code 3 says, starts again.
  int Revive() {
    int revived = 0;
    for (auto& [name, process] : processes_) {
      const std::optional<int> end = process->End();
      if (!end) continue;
      BOOST_TEST(*end == 3, name << " ended with " << *end << ": " << process->Log());
      process = std::make_unique<Process>(trial_, name);
      ++revived;
    }
    return revived;
  }
  void StopAll() {
    Revive();
    while (!processes_.empty()) Stop(std::string(processes_.begin()->first));
  }

 private:
  const Trial& trial_;
  std::map<std::string, std::unique_ptr<Process>> processes_;
};

// A port that nobody listens at.
int MonitorPort() {
  const KafkaProxy listener(0);
  return listener.port();
}

// Of each partition, what a process says is read and not committed.
std::vector<double> InFlight(int port) {
  const std::string page =
      Send(static_cast<uint16_t>(port), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  constexpr std::string_view kName = "\nnudge_in_flight_events{";
  std::vector<double> counts;
  for (size_t at = page.find(kName); at != page.npos; at = page.find(kName, at + 1)) {
    counts.push_back(std::stod(page.substr(page.find('}', at) + 1)));
  }
  return counts;
}

void WaitUntilAnswered(const Portions& portions, const Trial& trial, Group& group) {
  const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
  while (portions.IsWorkWaiting() && std::chrono::steady_clock::now() < deadline) {
    group.Revive();
    std::this_thread::sleep_for(Milliseconds(20));
  }
  BOOST_REQUIRE_MESSAGE(
      !portions.IsWorkWaiting(),
      "outcomes are missing: " << trial.reader->messages() << " of " << portions.published());
}

}  // namespace

BOOST_AUTO_TEST_CASE(processes_killed_at_random_under_load_answer_everything_once) {
  static const Workload load(91, 6'000, 24, 6);
  const int kills = Repetitions(2);
  for (size_t processes = 1; processes <= 3; ++processes) {
    const std::string name = "kills-of-" + std::to_string(processes);
    BOOST_TEST_CONTEXT(name) {
      const Trial trial(name, load, {.publish = false});
      Portions portions(trial, kills + 1);
      Group group(trial);
      int bites = 0;
      for (int kill = 0; kill < kills; ++kill) {
        for (size_t i = 0; i < processes; ++i) group.Start(kNames[i]);
        const uint64_t random = RandomAt(1'000 * processes, static_cast<uint64_t>(kill));
        std::this_thread::sleep_for(Milliseconds(random % 1'500));
        portions.Next();
        std::this_thread::sleep_for(Milliseconds((random >> 20) % 60));
        bites += portions.IsWorkWaiting();
        BOOST_TEST(group.Kill(kNames[(random >> 40) % processes]));
        // Now and then it stays away for longer than its session, and the others take over.
        if (kill % 5 == 4) std::this_thread::sleep_for(Milliseconds(7'500));
      }
      BOOST_TEST(bites > 0);
      portions.Next();
      for (size_t i = 0; i < processes; ++i) group.Start(kNames[i]);
      WaitUntilAnswered(portions, trial, group);
      group.StopAll();
      Tally::Add("killed at random under load: " + std::to_string(processes) + " processes", bites,
                 Check(trial));
    }
  }
}

BOOST_AUTO_TEST_CASE(processes_that_join_and_leave_under_load_answer_everything_once) {
  static const Workload load(92, 4'000, 24, 6);
  const int rounds = (Repetitions(2) + 4) / 5;
  const Trial trial("joining", load, {.behind_proxy = true, .publish = false});
  Portions portions(trial, 6 * rounds);
  Group group(trial);
  group.Start("one");
  Proxy().Arm(KafkaApi::kSyncGroup, KafkaProxy::Moment::kAnswer, KafkaProxy::Act::kWatch, 1,
              KafkaProxy::kForEver);
  for (int round = 0; round < rounds; ++round) {
    portions.Next();
    BOOST_REQUIRE(trial.reader->WaitFor(portions.published() / 2));
    for (const char* const name : {"two", "three"}) {
      const int before = Proxy().bites();
      group.Start(name);
      portions.Next();
      BOOST_TEST(Proxy().WaitForBites(before + 2), "no partition moved");  // both sides hear of it
      portions.Next();
    }
    for (const char* const name : {"two", "three"}) group.Stop(name);
    portions.Next();  // for those that are left, once the session of the others is over
  }
  WaitUntilAnswered(portions, trial, group);
  group.StopAll();
  Tally::Add("joined and left under load", 2 * rounds, Check(trial));
  Proxy().Disarm();
}

// Stopped in the middle of a commit until another process has its partitions and has answered
// everything: what it goes on with is refused.
BOOST_AUTO_TEST_CASE(a_process_that_stood_still_for_longer_than_its_session_writes_nothing_twice) {
  static const Workload load(93, 900, 9, 3);
  for (int round = 0; round < (Repetitions(2) + 4) / 5; ++round) {
    const std::string name = "stopped-" + std::to_string(round);
    BOOST_TEST_CONTEXT(name) {
      const Trial trial(name, load, {.behind_proxy = true, .publish = false});
      Portions portions(trial, 3);
      Group group(trial);
      portions.Next();
      Process& sleeper = group.Start("one");
      BOOST_REQUIRE(trial.reader->WaitFor(1));
      portions.WaitUntilAnswered();
      Proxy().Arm(KafkaApi::kEndTxn, KafkaProxy::Moment::kRequest, KafkaProxy::Act::kHold);
      portions.Next();
      BOOST_REQUIRE(Proxy().WaitForBites());
      sleeper.Signal(SIGSTOP);
      BOOST_TEST(portions.IsWorkWaiting());
      group.Start("two");
      portions.WaitUntilAnswered();  // by the second: the first's transaction is not ended
      sleeper.Signal(SIGCONT);
      BOOST_TEST(Proxy().Release());
      portions.Next();
      WaitUntilAnswered(portions, trial, group);
      group.StopAll();
      const size_t aborted = Check(trial);
      BOOST_TEST(aborted > 0);
      Tally::Add("stopped past its session inside a commit", 1, aborted);
    }
  }
}

// The broker goes away while events wait, by a crash or in order, for a moment or for 30 s.
BOOST_AUTO_TEST_CASE(a_broker_that_goes_away_costs_a_run_nothing_but_time) {
  static const Workload load(94, 1'800, 9, 3);
  const int rounds = Repetitions(2);
  const Trial trial("outages", load, {.publish = false, .session_timeout = Milliseconds(45'000)});
  Portions portions(trial, rounds + 1);
  Group group(trial);
  for (int round = 0; round < rounds; ++round) {
    Process& process = group.Start("one");
    process.WaitUntilItServes();
    process.Signal(SIGSTOP);  // what comes now waits
    portions.Next();
    KafkaBroker& broker = KafkaBroker::OfTheSuite();
    if (round % 2 == 0) {
      broker.Kill();
    } else {
      broker.Stop();
    }
    BOOST_TEST(portions.IsWorkWaiting());
    process.Signal(SIGCONT);
    const bool is_last = round + 1 == rounds;
    if (is_last && rounds > 2) std::this_thread::sleep_for(std::chrono::seconds(30));
    broker.Start();
    WaitUntilAnswered(portions, trial, group);
  }
  portions.Next();
  WaitUntilAnswered(portions, trial, group);
  group.StopAll();
  Tally::Add("broker away while events wait", rounds, Check(trial));
}

// All that may be in flight is, when the broker goes away for longer than a transaction lasts. It
// is stopped in order: its last answers to the client may be that there are no brokers at all.
BOOST_AUTO_TEST_CASE(a_broker_stopped_for_30_s_under_load_is_waited_for_in_bounded_memory) {
  constexpr int32_t kPartitionCount = 6;
  constexpr double kInFlight = 48;  // a partition
  static const Workload load(97, 6'000, 24, kPartitionCount);
  const int port = MonitorPort();
  TrialOptions options{
      .behind_proxy = true, .publish = false, .session_timeout = Milliseconds(45'000)};
  options.model += R"(, "monitor": {"port": )" + std::to_string(port) + "}";
  const Trial trial("long-outage", load, options);
  Portions portions(trial, 10);
  portions.Next();
  Process process(trial, "one");
  portions.WaitUntilAnswered();
  Proxy().Arm(KafkaApi::kEndTxn, KafkaProxy::Moment::kRequest, KafkaProxy::Act::kHold);
  for (int part = 1; part < 10; ++part) portions.Next();
  BOOST_REQUIRE(Proxy().WaitForBites());
  KafkaBroker::OfTheSuite().Stop();
  Proxy().CutAll();
  const auto back = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  std::vector<double> most(kPartitionCount, 0);
  while (std::chrono::steady_clock::now() < back) {
    const std::vector<double> counts = InFlight(port);
    BOOST_REQUIRE(counts.size() == most.size());
    for (size_t i = 0; i < most.size(); ++i) most[i] = std::max(most[i], counts[i]);
    std::this_thread::sleep_for(Milliseconds(500));
  }
  for (const double count : most) BOOST_TEST(count == kInFlight);
  BOOST_TEST(portions.IsWorkWaiting());
  KafkaBroker::OfTheSuite().Start();
  const auto begun = std::chrono::steady_clock::now();
  portions.WaitUntilAnswered();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
  BOOST_TEST_MESSAGE("all answered " << seconds.count() << " s after the broker came back");
  const int end = process.Stop();
  BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
  Tally::Add("broker stopped for 30 s under load", 1, Check(trial));
}
