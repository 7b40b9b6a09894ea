// Fault trials: processes of `nudge run` on topics of their own, disturbed, and what must be true
// of the topics afterwards.
//
//   Workload -> Trial (topics, processes, a reader beside them) -> Check: the oracle's chain,
//   each event's outcome once, the group after the last event, no open transaction
#pragma once

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/processor.h"
#include "tests/kafka_broker.h"
#include "tests/scripted_source.h"

namespace nudge::testing {

inline constexpr std::chrono::seconds kTrialPatience{180};

// ---- The input and its oracle -------------------------------------------------------------------

// An input topic's events, and the chain of each partition in one run that nobody disturbs, in this
// process and without Kafka.
class Workload {
 public:
  // The generator's events, every 37th replaced by an import of that tenant.
  Workload(uint64_t seed, uint64_t events, size_t tenants, int32_t partitions)
      : partitions_(partitions), imports_(std::make_unique<TempFolder>()) {
    const std::string bytes = "an adapter";
    std::ofstream(imports_->path() + "/adapter") << bytes;
    EventGenerator generator({.seed = seed, .events = events, .tenants = tenants});
    for (uint64_t number = 0; number < events; ++number) {
      std::string line = generator.Line(number);
      if (number % 37 == 36) {
        line = R"({"specversion":"1.0","id":"import-)" + std::to_string(number) +
               R"(","source":"/imports","type":"nudge.adapter","tenant":")" +
               PeekHead(line).tenant + R"(","data":{"action":"import","uri":"adapter","sha256":")" +
               Sha256Hex(bytes) + "\"}}";
      }
      Add(std::move(line));
    }
    more_ = R"(, "adapt": {"import_folder": ")" + imports_->path() + "\"}";
  }
  // The oracle runs with `model`, sections of a configuration, and keeps state and snapshots in
  // `folder`.
  Workload(const std::vector<std::string>& lines, int32_t partitions, std::string model,
           std::string folder)
      : partitions_(partitions), model_(std::move(model)), folder_(std::move(folder)) {
    for (const std::string& line : lines) Add(line);
  }

  struct Sent {
    int32_t partition;
    std::string tenant;
    std::string line;
  };
  const std::vector<Sent>& sent() const { return sent_; }  // in the order of publishing
  size_t size() const { return sent_.size(); }
  int32_t partitions() const { return partitions_; }
  const std::map<int32_t, std::vector<std::string>>& lines() const { return lines_; }
  const std::string& more() const { return more_; }  // of a configuration, behind the model's

  const std::map<int32_t, std::string>& Oracle() const {
    if (!oracle_.empty()) return oracle_;
    const Config config =
        ParseConfig(R"({"input": {"path": "-"}, "output": {"folder": ")" +
                        (folder_.empty() ? "unused" : folder_) + "\"}, " + model_ + more_ + "}",
                    "");
    ProcessorOptions options = ToProcessorOptions(config);
    if (folder_.empty()) options.state_folder.clear();
    options.graph.threads = 1;
    options.executor.threads = 1;
    std::vector<testing::Act> acts;
    for (const auto& [partition, lines] : lines_) {
      acts.emplace_back(Assign{partition});
      acts.emplace_back(Deliver{partition, lines.size()});
    }
    ScriptedSource source(lines_, std::move(acts));
    MemorySink sink;
    const std::unique_ptr<Backend> backend = MakeBackend(config);
    Processor processor(options, {}, *backend, source, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    BOOST_REQUIRE(summary.ok());
    for (const auto& [partition, done] : *summary) oracle_[partition] = Hex(done.chain);
    const bool imported = std::ranges::any_of(sink.lines(), [](const OutcomeLine& line) {
      return line.bytes.find("imported adapter as version") != std::string::npos;
    });
    BOOST_REQUIRE(imported == (imports_ != nullptr));
    return oracle_;
  }

 private:
  // Those that have a tenant: others have no partition of their own.
  void Add(std::string line) {
    const TenantId tenant = PeekHead(line).tenant;
    if (tenant.empty()) return;
    const int32_t partition = Murmur2Partition(tenant, partitions_);
    lines_[partition].push_back(line);
    sent_.push_back({partition, tenant, std::move(line)});
  }

  const int32_t partitions_;
  const std::string model_ = R"("model": {"backend": "template", "template_dimension": 8})";
  const std::string folder_;  // empty: nothing is kept
  const std::unique_ptr<TempFolder> imports_;
  std::string more_;
  std::vector<Sent> sent_;
  std::map<int32_t, std::vector<std::string>> lines_;
  mutable std::map<int32_t, std::string> oracle_;
};

// ---- Reading ------------------------------------------------------------------------------------

// Reads all output topics from their start, as others would beside the run.
class OutcomeReader {
 public:
  OutcomeReader(const KafkaOptions& topics, int32_t partitions, const std::string& isolation) {
    char text[256];
    rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
    for (const auto& [name, value] :
         std::map<std::string, std::string>{{"bootstrap.servers", topics.brokers},
                                            {"group.id", "nudge-test-reader"},
                                            {"enable.auto.commit", "false"},
                                            {"enable.partition.eof", "true"},
                                            {"auto.offset.reset", "earliest"},
                                            {"isolation.level", isolation},
                                            {"log_level", "2"},
                                            {"reconnect.backoff.max.ms", "500"},
                                            {"fetch.wait.max.ms", "20"}}) {
      rd_kafka_conf_set(configuration, name.c_str(), value.c_str(), text, sizeof text);
    }
    handle_ = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, text, sizeof text);
    rd_kafka_poll_set_consumer(handle_);
    rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
    for (const std::string& topic :
         {topics.response_topic, topics.receipt_topic, topics.dead_letter_topic}) {
      for (int32_t partition = 0; partition < partitions; ++partition) {
        rd_kafka_topic_partition_list_add(list, topic.c_str(), partition)->offset = 0;
      }
    }
    streams_ = static_cast<size_t>(list->cnt);
    rd_kafka_assign(handle_, list);
    rd_kafka_topic_partition_list_destroy(list);
  }
  ~OutcomeReader() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    rd_kafka_consumer_close(handle_);
    rd_kafka_destroy(handle_);
  }
  OutcomeReader(const OutcomeReader&) = delete;
  OutcomeReader& operator=(const OutcomeReader&) = delete;

  // From now on, in a thread of its own.
  void Follow() {
    thread_ = std::thread([this] {
      while (!stop_) Take(20);
    });
  }
  // All that is there now.
  void ReadToEnd() {
    const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
    while (ended_.size() < streams_ && std::chrono::steady_clock::now() < deadline) Take(100);
    BOOST_REQUIRE(ended_.size() == streams_);
  }

  size_t messages() const { return messages_; }
  bool WaitFor(size_t count, std::chrono::milliseconds timeout = kTrialPatience) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (messages_ < count && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return messages_ >= count;
  }

  struct Found {
    std::map<int32_t, std::map<int64_t, std::string>> chains;  // by partition and input offset
    std::vector<std::string> faults;                           // what a reader must never see
  };
  Found found() const {
    const std::lock_guard lock(mutex_);
    return found_;
  }

 private:
  void Take(int timeout_ms) {
    rd_kafka_message_t* const message = rd_kafka_consumer_poll(handle_, timeout_ms);
    if (message == nullptr) return;
    const std::string name = message->rkt == nullptr ? "" : rd_kafka_topic_name(message->rkt);
    const std::pair<std::string, int32_t> stream{name, message->partition};
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) ended_[stream] = true;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      Note(stream, {static_cast<const char*>(message->payload), message->len});
    }
    rd_kafka_message_destroy(message);
  }

  void Note(const std::pair<std::string, int32_t>& stream, std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    const std::string where = stream.first + "/" + std::to_string(stream.second) + ": ";
    const auto outcome = DecodeOutcome(bytes);
    if (!outcome.ok()) {
      found_.faults.push_back(where + outcome.error().message);
    } else {
      const int64_t offset = outcome->offset;
      if (!found_.chains[stream.second].emplace(offset, outcome->chain).second) {
        found_.faults.push_back(where + "offset " + std::to_string(offset) + " twice");
      }
      const auto last = last_.try_emplace(stream, -1).first;
      if (offset <= last->second) {
        found_.faults.push_back(where + "offset " + std::to_string(offset) + " out of order");
      }
      last->second = offset;
    }
    ++messages_;
  }

  rd_kafka_t* handle_;
  size_t streams_ = 0;
  std::map<std::pair<std::string, int32_t>, bool> ended_;
  std::map<std::pair<std::string, int32_t>, int64_t> last_;
  std::atomic<size_t> messages_{0};
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  Found found_;
  std::thread thread_;
};

// Ends of partitions as a reader of that isolation sees them: an open transaction lies between the
// ends of read_committed and read_uncommitted.
inline std::vector<int64_t> EndsOf(const KafkaOptions& topics, int32_t partitions,
                                   const std::string& isolation) {
  char text[256];
  rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"bootstrap.servers", topics.brokers}, {"isolation.level", isolation}}) {
    rd_kafka_conf_set(configuration, name.c_str(), value.c_str(), text, sizeof text);
  }
  rd_kafka_t* const handle = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, text, sizeof text);
  std::vector<int64_t> ends;
  for (const std::string& topic :
       {topics.response_topic, topics.receipt_topic, topics.dead_letter_topic}) {
    for (int32_t partition = 0; partition < partitions; ++partition) {
      int64_t low = -1;
      int64_t high = -1;
      BOOST_REQUIRE(rd_kafka_query_watermark_offsets(handle, topic.c_str(), partition, &low, &high,
                                                     30'000) == RD_KAFKA_RESP_ERR_NO_ERROR);
      ends.push_back(high);
    }
  }
  rd_kafka_destroy(handle);
  return ends;
}

inline bool HasOpenTransaction(const KafkaOptions& topics, int32_t partitions) {
  return EndsOf(topics, partitions, "read_committed") !=
         EndsOf(topics, partitions, "read_uncommitted");
}

// Where the group stands in a partition of the input; -1001: nowhere.
inline int64_t GroupOffset(const KafkaOptions& topics, int32_t partition) {
  char text[256];
  rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"bootstrap.servers", topics.brokers},
                                          {"isolation.level", "read_committed"},
                                          {"group.id", topics.group_id}}) {
    rd_kafka_conf_set(configuration, name.c_str(), value.c_str(), text, sizeof text);
  }
  rd_kafka_t* const handle = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, text, sizeof text);
  rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topics.input_topic.c_str(), partition);
  BOOST_REQUIRE(rd_kafka_committed(handle, list, 30'000) == RD_KAFKA_RESP_ERR_NO_ERROR);
  const int64_t offset = list->elems[0].offset;
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_destroy(handle);
  return offset;
}

// ---- Trials -------------------------------------------------------------------------------------

struct TrialOptions {
  bool behind_proxy = false;  // the processes; who watches them is not
  bool publish = true;        // the whole workload at once
  std::chrono::milliseconds session_timeout{6'000};
  std::chrono::milliseconds transaction_timeout{15'000};
  std::chrono::milliseconds commit_timeout{120'000};
  std::string model = R"("model": {"backend": "template", "template_dimension": 8},
  "limits": {"in_flight_events": 48},
  "checkpoint": {"every_events": 40, "backup_every_cuts": 3})";
};

// Topics of one trial, all of its own, where its processes keep their state, and a reader that
// follows from the beginning.
class Trial {
 public:
  Trial(const std::string& name, const Workload& load, TrialOptions given = {})
      : topics(OptionsFor(KafkaBroker::OfTheSuite().address(), name)),
        workload(load),
        options(std::move(given)) {
    const auto made = CreateTopics(topics, workload.partitions(), 1);
    BOOST_REQUIRE_MESSAGE(made.ok(), (made.ok() ? "" : made.error().message));
    if (options.publish) Publish(0, workload.size());
    reader = std::make_unique<OutcomeReader>(topics, workload.partitions(), "read_committed");
    reader->Follow();
  }

  // Events [from, to) of the workload; pauses after each `burst` of them.
  void Publish(size_t from, size_t to, size_t burst = 0,
               std::chrono::milliseconds pause = std::chrono::milliseconds(0)) const {
    RawProducer producer(topics.brokers);
    for (size_t i = from; i < to; ++i) {
      const Workload::Sent& sent = workload.sent()[i];
      producer.Send(topics.input_topic, sent.partition, sent.tenant, sent.line);
      if (burst == 0 || (i + 1) % burst != 0) continue;
      producer.Flush();
      std::this_thread::sleep_for(pause);
    }
    producer.Flush();
  }

  std::string ConfigOf(const std::string& instance) const {
    const std::string brokers =
        options.behind_proxy ? KafkaBroker::OfTheSuite().proxy().address() : topics.brokers;
    return R"({"kafka": {"brokers": ")" + brokers + R"(", "group_id": ")" + topics.group_id +
           R"(", "instance_id": ")" + instance + R"(", "input_topic": ")" + topics.input_topic +
           R"(", "response_topic": ")" + topics.response_topic + R"(", "receipt_topic": ")" +
           topics.receipt_topic + R"(", "dead_letter_topic": ")" + topics.dead_letter_topic +
           R"(", "session_timeout_ms": )" + std::to_string(options.session_timeout.count()) +
           R"(, "transaction_timeout_ms": )" + std::to_string(options.transaction_timeout.count()) +
           R"(, "commit_timeout_ms": )" + std::to_string(options.commit_timeout.count()) +
           R"(},
  "output": {"folder": ")" +
           folder.path() + R"("},
  )" + options.model +
           workload.more() + "}";
  }

  bool IsAllAnswered() const { return reader->messages() >= workload.size(); }
  void WaitUntilAllIsAnswered() const {
    BOOST_REQUIRE_MESSAGE(
        reader->WaitFor(workload.size()),
        "outcomes are missing: " << reader->messages() << " of " << workload.size());
  }

  const KafkaOptions topics;
  const Workload& workload;
  const TrialOptions options;
  const TempFolder folder;
  std::unique_ptr<OutcomeReader> reader;  // read_committed
};

// A nudge that serves; killed with this object if it still lives.
class Process {
 public:
  // A `nudge run` of the trial. `asked`: a variable of its environment, "NAME=VALUE" (NUDGE_DIE_AT,
  // NUDGE_STAND_IN).
  Process(const Trial& trial, const std::string& instance, const std::string& asked = "")
      : Process({"run", Written(trial, instance)}, asked) {}

  // Arguments of nudge, the second of them its configuration: its log is CONFIG.log, behind that of
  // those before it.
  explicit Process(std::vector<std::string> arguments, std::string asked = "")
      : log_(arguments.at(1) + ".log"), served_before_(CountServing()) {
    std::vector<char*> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
    if (!asked.empty()) environment.push_back(asked.data());
    environment.push_back(nullptr);
    std::string binary = NUDGE_BINARY;
    std::vector<char*> argv{binary.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log_.c_str(),
                                     O_CREAT | O_WRONLY | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    const int failed =
        posix_spawn(&pid_, NUDGE_BINARY, &files, nullptr, argv.data(), environment.data());
    posix_spawn_file_actions_destroy(&files);
    BOOST_REQUIRE_EQUAL(failed, 0);
  }
  ~Process() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal) const {
    if (pid_ > 0) kill(pid_, signal);
  }

  // Until it says so; from then on it heeds signals.
  void WaitUntilItServes() const {
    const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
    while (CountServing() == served_before_) {
      BOOST_REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline,
                            "does not serve: " << Log());
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  // How it ended: its exit code, or minus the signal that ended it; nothing while it lives.
  std::optional<int> End() {
    int status = 0;
    if (pid_ <= 0 || waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = 0;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }
  int Wait() {
    const auto deadline = std::chrono::steady_clock::now() + kTrialPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (const std::optional<int> end = End()) return *end;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    BOOST_FAIL("a process did not end in time: " << Log());
    return 0;
  }
  bool Kill() {
    Signal(SIGKILL);
    return Wait() == -SIGKILL;
  }
  int Stop() {
    Signal(SIGTERM);
    return Wait();
  }

  std::string Log() const {
    std::ifstream file(log_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  static std::string Written(const Trial& trial, const std::string& instance) {
    std::string config = trial.folder.path() + "/" + instance + ".json";
    std::ofstream(config) << trial.ConfigOf(instance);
    return config;
  }

  // Processes of the same log that said that they serve.
  size_t CountServing() const {
    const std::string log = Log();
    size_t count = 0;
    for (size_t at = log.find(" serving "); at != log.npos; at = log.find(" serving ", at + 1)) {
      ++count;
    }
    return count;
  }

  const std::string log_;
  const size_t served_before_;
  pid_t pid_ = 0;
};

// What must be true once all is answered. Returns how many outcomes of transactions that were cut
// short lie in the log beside the committed ones.
inline size_t Check(const Trial& trial) {
  const int32_t partitions = trial.workload.partitions();
  BOOST_TEST(!HasOpenTransaction(trial.topics, partitions));
  OutcomeReader later(trial.topics, partitions, "read_committed");
  later.ReadToEnd();
  BOOST_TEST(later.messages() == trial.workload.size());
  BOOST_TEST(trial.reader->messages() == trial.workload.size());
  for (const OutcomeReader* reader : {trial.reader.get(), &later}) {
    const OutcomeReader::Found found = reader->found();
    for (const std::string& fault : found.faults) BOOST_TEST(false, fault);
    for (const auto& [partition, lines] : trial.workload.lines()) {
      const auto chains = found.chains.find(partition);
      BOOST_REQUIRE(chains != found.chains.end());
      BOOST_TEST(chains->second.size() == lines.size());
      BOOST_TEST(chains->second.rbegin()->first == static_cast<int64_t>(lines.size()) - 1);
      BOOST_TEST(chains->second.rbegin()->second == trial.workload.Oracle().at(partition),
                 "the chain of partition " << partition << " is not the oracle's");
    }
  }
  for (const auto& [partition, lines] : trial.workload.lines()) {
    BOOST_TEST(GroupOffset(trial.topics, partition) == static_cast<int64_t>(lines.size()));
  }
  OutcomeReader everything(trial.topics, partitions, "read_uncommitted");
  everything.ReadToEnd();
  return everything.messages() - trial.workload.size();
}

// One more process finishes what is left, ends as it should, and all is checked.
inline size_t FinishAndCheck(const Trial& trial, const std::string& instance) {
  Process process(trial, instance);
  process.WaitUntilItServes();
  trial.WaitUntilAllIsAnswered();
  const int end = process.Stop();
  BOOST_TEST(end == 0, "ended with " << end << ": " << process.Log());
  return Check(trial);
}

// ---- Counts -------------------------------------------------------------------------------------

// What each kind of fault did, printed as one table when the suite ends.
class Tally {
 public:
  struct Row {
    int trials = 0;
    int faults = 0;      // that bit
    size_t aborted = 0;  // outcomes of transactions that were cut short
  };
  static void Add(const std::string& kind, int faults, size_t aborted) {
    Row& row = Rows()[kind];
    ++row.trials;
    row.faults += faults;
    row.aborted += aborted;
  }
  ~Tally() {
    if (Rows().empty()) return;
    std::printf("%-56s %7s %7s %9s\n", "fault", "trials", "bites", "aborted");
    for (const auto& [kind, row] : Rows()) {
      std::printf("%-56s %7d %7d %9zu\n", kind.c_str(), row.trials, row.faults, row.aborted);
    }
    std::fflush(stdout);
  }

 private:
  static std::map<std::string, Row>& Rows() {
    static std::map<std::string, Row> rows;
    return rows;
  }
};

// How often a fault is repeated: NUDGE_KILLS, else `otherwise`.
inline int Repetitions(int otherwise) {
  const char* const text = std::getenv("NUDGE_KILLS");
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace nudge::testing
