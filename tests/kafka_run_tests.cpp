// labels: kafka slow
// `nudge run` against a real broker, killed at every named place: afterwards the topics hold what
// one run that nobody disturbed would have made.
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "connectors/memory.h"
#include "pipeline/config.h"
#include "pipeline/event_generator.h"
#include "stages/fault_point.h"
#include "stages/model/template_backend.h"
#include "tests/kafka_broker.h"
#include "tests/scripted_source.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr int32_t kPartitions = 3;
constexpr uint64_t kEvents = 900;
constexpr std::chrono::seconds kPatience{120};

std::string Brokers() {
  return KafkaBroker::OfTheSuite().address();
}

// The input topic's partitions as they are sent: those events that have a tenant.
const std::map<int32_t, std::vector<std::string>>& Input() {
  static const auto input = [] {
    std::map<int32_t, std::vector<std::string>> lines;
    EventGenerator generator({.seed = 31, .events = kEvents, .tenants = 9});
    for (uint64_t number = 0; number < kEvents; ++number) {
      std::string line = generator.Line(number);
      const TenantId tenant = PeekHead(line).tenant;
      if (tenant.empty()) continue;
      lines[Murmur2Partition(tenant, kPartitions)].push_back(std::move(line));
    }
    return lines;
  }();
  return input;
}

// Topics of one trial, all of its own, and where its processes keep their state.
struct Trial {
  explicit Trial(const std::string& name) : topics(OptionsFor(Brokers(), name)) {
    const auto made = CreateTopics(topics, kPartitions, 1);
    BOOST_REQUIRE_MESSAGE(made.ok(), (made.ok() ? "" : made.error().message));
    RawProducer producer(topics.brokers);
    for (const auto& [partition, lines] : Input()) {
      for (const std::string& line : lines) {
        producer.Send(topics.input_topic, partition, PeekHead(line).tenant, line);
      }
    }
    producer.Flush();
  }

  std::string ConfigOf(const std::string& instance) const {
    return R"({"kafka": {"brokers": ")" + topics.brokers + R"(", "group_id": ")" + topics.group_id +
           R"(", "instance_id": ")" + instance + R"(", "input_topic": ")" + topics.input_topic +
           R"(", "response_topic": ")" + topics.response_topic + R"(", "receipt_topic": ")" +
           topics.receipt_topic + R"(", "dead_letter_topic": ")" + topics.dead_letter_topic +
           R"(", "session_timeout_ms": 6000},
  "output": {"folder": ")" +
           folder.path() + R"("},
  "model": {"backend": "template", "template_dimension": 8},
  "limits": {"in_flight_events": 48},
  "checkpoint": {"every_events": 40, "backup_every_cuts": 3}})";
  }

  const KafkaOptions topics;
  const TempFolder folder;
};

// A `nudge run` of the trial; killed with this object if it still lives.
class Process {
 public:
  Process(const Trial& trial, const std::string& instance, const std::string& die_at = "") {
    const std::string config = trial.folder.path() + "/" + instance + ".json";
    const std::string log = trial.folder.path() + "/" + instance + ".log";
    std::ofstream(config) << trial.ConfigOf(instance);
    pid_ = fork();
    BOOST_REQUIRE(pid_ >= 0);
    if (pid_ > 0) return;
    const int file = open(log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    if (!die_at.empty()) setenv("NUDGE_DIE_AT", die_at.c_str(), 1);
    execl(NUDGE_BINARY, NUDGE_BINARY, "run", config.c_str(), nullptr);
    _exit(127);
  }
  ~Process() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal) const { kill(pid_, signal); }

  // How it ended: its exit code, or minus the signal that ended it.
  int Wait() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = 0;
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    BOOST_FAIL("a process did not end in time");
    return 0;
  }

 private:
  pid_t pid_ = 0;
};

// The chain of each partition in one run that nobody disturbed, in this process and without Kafka.
const std::map<int32_t, std::string>& Oracle() {
  static const auto chains = [] {
    const Config config = ParseConfig(
        R"({"input": {"path": "-"}, "output": {"folder": "unused"},
            "model": {"backend": "template", "template_dimension": 8}})",
        "");
    ProcessorOptions options = ToProcessorOptions(config);
    options.state_folder.clear();
    std::vector<Act> acts;
    for (const auto& [partition, lines] : Input()) {
      acts.emplace_back(Assign{partition});
      acts.emplace_back(Deliver{partition, lines.size()});
    }
    ScriptedSource source(Input(), std::move(acts));
    MemorySink sink;
    const auto backend = MakeTemplateBackend({.dimension = 8});
    Processor processor(options, {}, *backend, source, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    BOOST_REQUIRE(summary.ok());
    std::map<int32_t, std::string> found;
    for (const auto& [partition, done] : *summary) found[partition] = Hex(done.chain);
    return found;
  }();
  return chains;
}

size_t CountOutcomes(const Trial& trial, const std::string& isolation) {
  size_t count = 0;
  for (const std::string& topic :
       {trial.topics.response_topic, trial.topics.receipt_topic, trial.topics.dead_letter_topic}) {
    for (int32_t partition = 0; partition < kPartitions; ++partition) {
      count += ReadAll(trial.topics.brokers, topic, partition, isolation).size();
    }
  }
  return count;
}

size_t InputEvents() {
  size_t count = 0;
  for (const auto& [partition, lines] : Input()) count += lines.size();
  return count;
}

void WaitUntilAllIsAnswered(const Trial& trial) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (CountOutcomes(trial, "read_committed") < InputEvents()) {
    BOOST_REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline, "outcomes are missing");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

// Each offset once, in order within its topic, and the oracle's chain at the end.
void CheckTopics(const Trial& trial) {
  for (const auto& [partition, lines] : Input()) {
    std::map<int64_t, std::string> chains;
    size_t count = 0;
    for (const std::string& topic : {trial.topics.response_topic, trial.topics.receipt_topic,
                                     trial.topics.dead_letter_topic}) {
      int64_t last = -1;
      for (const Stored& stored : ReadAll(trial.topics.brokers, topic, partition)) {
        const auto outcome = DecodeOutcome(stored.bytes);
        BOOST_REQUIRE(outcome.ok());
        BOOST_TEST(outcome->offset > last);
        last = outcome->offset;
        chains[outcome->offset] = outcome->chain;
        ++count;
      }
    }
    BOOST_TEST(count == lines.size());
    BOOST_TEST(chains.size() == lines.size());
    BOOST_REQUIRE(!chains.empty());
    BOOST_TEST(chains.rbegin()->first == static_cast<int64_t>(lines.size()) - 1);
    BOOST_TEST(chains.rbegin()->second == Oracle().at(partition), "partition " << partition);
  }
}

void FinishAndCheck(const Trial& trial, const std::string& instance) {
  Process process(trial, instance);
  WaitUntilAllIsAnswered(trial);
  process.Signal(SIGTERM);
  BOOST_TEST(process.Wait() == 0);
  CheckTopics(trial);
}

int How(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_run_that_nobody_disturbs_makes_what_the_oracle_makes) {
  const Trial trial("calm");
  FinishAndCheck(trial, "one");
  // Stopped cleanly and started again there is nothing left to do.
  Process again(trial, "one");
  std::this_thread::sleep_for(std::chrono::seconds(2));
  again.Signal(SIGTERM);
  BOOST_TEST(again.Wait() == 0);
  CheckTopics(trial);
}

BOOST_AUTO_TEST_CASE(a_process_killed_at_a_named_place_leaves_no_trace) {
  // NUDGE_KILLS: how often at each place; the more, the later in the run.
  const int kills = How("NUDGE_KILLS", 2);
  size_t aborted = 0;
  for (const std::string_view place : kFaultPoints) {
    if (place == "revoke") continue;  // below
    for (int kill = 0; kill < kills; ++kill) {
      const std::string name = std::string(place) + "-" + std::to_string(kill);
      BOOST_TEST_CONTEXT(name) {
        const Trial trial(name);
        const bool in_recovery = place == "restore" || place == "replay";
        if (in_recovery) {  // something to restore and to replay: a process dies before its cut
          Process first(trial, "one", "checkpoint-before:" + std::to_string(3 + kill));
          BOOST_REQUIRE(first.Wait() == -SIGKILL);
        }
        const int nth = place == "restore" ? 1 + kill % kPartitions : 1 + 3 * kill;
        {
          Process process(trial, "one", std::string(place) + ":" + std::to_string(nth));
          BOOST_REQUIRE_MESSAGE(process.Wait() == -SIGKILL, "the fault did not bite");
        }
        FinishAndCheck(trial, "one");
        const size_t seen = CountOutcomes(trial, "read_uncommitted");
        aborted += seen - InputEvents();
      }
    }
  }
  BOOST_TEST_MESSAGE("outcomes of transactions that were cut short: " << aborted);
  BOOST_TEST(aborted > 0U);
}

BOOST_AUTO_TEST_CASE(partitions_move_between_processes_and_a_process_killed_while_they_do) {
  for (const bool killed : {false, true}) {
    BOOST_TEST_CONTEXT((killed ? "killed" : "handed over")) {
      const Trial trial(killed ? "moving-killed" : "moving");
      Process first(trial, "one", killed ? "revoke:1" : "");
      std::this_thread::sleep_for(std::chrono::seconds(2));
      Process second(trial, "two");
      if (killed) BOOST_REQUIRE(first.Wait() == -SIGKILL);
      WaitUntilAllIsAnswered(trial);
      second.Signal(SIGTERM);
      BOOST_TEST(second.Wait() == 0);
      if (!killed) {
        first.Signal(SIGTERM);
        BOOST_TEST(first.Wait() == 0);
      }
      CheckTopics(trial);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_process_killed_again_and_again_at_random_gets_there) {
  const Trial trial("random");
  int bites = 0;
  for (uint64_t round = 0; round < 8; ++round) {
    Process process(trial, "one");
    const uint64_t wait_ms = 700 + RandomAt(5, round) % 1500;
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    process.Signal(SIGKILL);
    bites += process.Wait() == -SIGKILL;
  }
  BOOST_TEST(bites == 8);
  FinishAndCheck(trial, "one");
}

BOOST_AUTO_TEST_CASE(a_second_process_of_the_same_name_ends_the_first) {
  const Trial trial("twins");
  Process first(trial, "one");
  std::this_thread::sleep_for(std::chrono::seconds(3));
  Process second(trial, "one");
  BOOST_TEST(first.Wait() == 3);  // fenced: docs/OPERATING.md
  WaitUntilAllIsAnswered(trial);
  second.Signal(SIGTERM);
  BOOST_TEST(second.Wait() == 0);
  CheckTopics(trial);
}
