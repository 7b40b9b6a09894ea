// `nudge bench kafka`: live topics through the engine, exactly once and at least once side by side.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "pipeline/bench/bench.h"
#include "pipeline/bench/bench_tools.h"
#include "pipeline/bench/cpu_split.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/processor.h"
#include "pipeline/stop_requested.h"
#include "stages/exit_code.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

// What is sent. None of it malformed: each event has a tenant.
struct Load {
  const char* name;
  const char* topic;  // the rest of its name
  bool only_documents;
};
constexpr Load kEverything{"all kinds of events", "all", false};
constexpr Load kDocuments{"short documents upserted (a value under its key, a receipt each)",
                          "documents", true};

GeneratorOptions Generated(const BenchKafkaArguments& arguments, const Load& load, size_t events) {
  return {.seed = 9,
          .events = events,
          .tenants = arguments.tenants,
          .with_faults = false,
          .only_documents = load.only_documents};
}

// The group and topics of one run.
KafkaOptions Named(KafkaOptions kafka, const std::string& name) {
  for (std::string* part :
       {&kafka.group_id, &kafka.response_topic, &kafka.receipt_topic, &kafka.dead_letter_topic}) {
    *part += "-" + name;
  }
  return kafka;
}

void MakeTopics(const KafkaOptions& kafka, int partitions) {
  if (const auto made = CreateTopics(kafka, partitions, 1); !made.ok()) {
    throw StartError(made.error().message);
  }
}

ProcessorOptions EngineOptions(const Config& config, const BenchKafkaArguments& arguments,
                               const ScratchFolder& folder) {
  ProcessorOptions options = ToProcessorOptions(config);
  options.state_folder = folder.path() + "/state";
  options.checkpoint_every_events = 10'000;
  options.graph.threads = arguments.threads;
  options.executor.threads = static_cast<size_t>(arguments.threads);
  return options;
}

// The whole topic once, with an empty state, in events/s; 0: a signal stopped it. The clock runs
// from the first outcome that is committed to the last. Where the group has committed the topic
// before, that is a replay, and the clock runs from the beginning. Without a name nothing is said.
double RunOnce(const Config& config, const BenchKafkaArguments& arguments,
               const KafkaOptions& kafka, const char* name, bool is_replay = false) {
  const ScratchFolder folder;
  MakeTopics(kafka, arguments.partitions);
  ProcessorOptions options = EngineOptions(config, arguments, folder);
  const auto backend = MakeTemplateBackend({.dimension = arguments.dimension});
  CpuSplit split;
  KafkaClient client(kafka);
  split.Claim("librdkafka: fetching");
  KafkaSink sink(client);
  split.Claim("librdkafka: sending");
  KafkaSource source(client);
  options.partition_count = client.partitions();
  std::atomic<bool> stop{false};
  uint64_t outcomes = 0;
  Clock::time_point first, last;
  const GraphMetrics* metrics = nullptr;
  Processor processor(options,
                      {[&](const OutcomeLine&) {
                         if (outcomes == 0) {
                           first = Clock::now();
                           split.Begin(*metrics);
                         }
                         if (++outcomes == arguments.events) {
                           last = Clock::now();
                           split.End(*metrics);
                           stop = true;
                         }
                         if (stop_requested) stop = true;
                       },
                       {},
                       {}},
                      *backend, source, sink);
  metrics = &processor.metrics();
  const auto begun = Clock::now();
  const auto done = processor.Run(stop);
  if (!done.ok()) throw StartError(done.error().message);
  if (stop_requested) return 0;
  const double seconds = std::chrono::duration<double>(last - (is_replay ? begun : first)).count();
  const auto events = static_cast<double>(arguments.events);
  if (name == nullptr) return events / seconds;
  const KafkaStatistics statistics = client.statistics();
  std::printf("  %-14s %9.0f events/s %6llu commits, peak %.0f MB\n", name, events / seconds,
              static_cast<unsigned long long>(statistics.commits), PeakMegabytes());
  split.Print(events);
  std::fflush(stdout);
  return events / seconds;
}

// ---- Latency ------------------------------------------------------------------------------------

// Passes events on and notes when each was taken, by its place in the input topic.
class Timed final : public Source {
 public:
  Timed(Source& events, int32_t partitions, size_t count)
      : events_(events), taken_(static_cast<size_t>(partitions)) {
    for (auto& times : taken_) times.reserve(count);
  }
  void Listen(PartitionListener& listener) override { events_.Listen(listener); }
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override {
    Result<Pull> pull = events_.Next(record, timeout);
    if (pull.ok() && *pull == Pull::kRecord) {
      const auto partitions = static_cast<int32_t>(taken_.size());
      const int32_t to = Murmur2Partition(PeekHead(record.bytes).tenant, partitions);
      const std::lock_guard lock(mutex_);
      taken_[static_cast<size_t>(to)].push_back(Clock::now());
    }
    return pull;
  }
  Result<Nothing> Seek(int32_t, int64_t) override { return Nothing{}; }
  void Pause(int32_t) override {}
  void Resume(int32_t) override {}

  Clock::time_point TakenAt(int32_t partition, int64_t offset) const {
    const std::lock_guard lock(mutex_);
    return taken_[static_cast<size_t>(partition)][static_cast<size_t>(offset)];
  }

 private:
  Source& events_;
  mutable std::mutex mutex_;
  std::vector<std::vector<Clock::time_point>> taken_;
};

// Milliseconds from an event's making to its outcome in the hands of a read_committed reader, of
// each outcome but those of the first `warm_up`.
std::vector<double> ReadLatencies(KafkaOptions kafka, const Timed& made, size_t events,
                                  size_t warm_up) {
  std::swap(kafka.input_topic, kafka.response_topic);
  kafka.receipt_topic = kafka.dead_letter_topic = kafka.response_topic;
  kafka.group_id += "-reader";
  KafkaClient client(kafka);
  KafkaSource source(client);
  std::vector<double> latencies_ms;
  Record record;
  for (size_t seen = 0; seen < events && !stop_requested;) {
    const auto pull = source.Next(record, std::chrono::milliseconds(50));
    if (!pull.ok()) throw StartError(pull.error().message);
    if (*pull != Source::Pull::kRecord) continue;
    const auto now = Clock::now();
    const auto outcome = DecodeOutcome(record.bytes);
    if (!outcome.ok()) throw StartError(outcome.error().message);
    const auto made_at = made.TakenAt(record.partition, outcome->offset);
    if (seen++ >= warm_up) {
      latencies_ms.push_back(std::chrono::duration<double, std::milli>(now - made_at).count());
    }
  }
  return latencies_ms;
}

// Events at a steady rate through publisher, engine and reader, all in this process.
void BenchLatency(const Config& config, const BenchKafkaArguments& arguments, KafkaOptions kafka) {
  constexpr size_t kEventsPerSecond = 2'000;
  constexpr size_t kEvents = 10 * kEventsPerSecond;
  const ScratchFolder folder;
  kafka.group_id += "-latency";
  kafka.input_topic += "-latency";
  kafka.response_topic += "-latency";
  kafka.receipt_topic = kafka.dead_letter_topic = kafka.response_topic;  // one to read
  MakeTopics(kafka, arguments.partitions);
  ProcessorOptions options = EngineOptions(config, arguments, folder);
  const auto backend = MakeTemplateBackend({.dimension = arguments.dimension});
  KafkaClient client(kafka);
  KafkaSink sink(client);
  KafkaSource source(client);
  options.partition_count = client.partitions();
  Processor processor(options, {}, *backend, source, sink);
  std::atomic<bool> stop{false};
  std::optional<Error> failure;  // of engine or publisher; the reader waits for nothing then
  std::mutex mutex;
  const auto note = [&](const auto& result) {
    if (result.ok()) return;
    const std::lock_guard lock(mutex);
    failure = result.error();
    stop_requested = true;
  };
  std::thread engine([&] { note(processor.Run(stop)); });
  GeneratedSource generated(Generated(arguments, kEverything, kEvents));
  Timed events(generated, arguments.partitions, kEvents);
  std::thread publishing([&] {
    KafkaPublisher publisher(kafka);
    note(publisher.Publish(events, {.events_per_second = kEventsPerSecond}, stop_requested));
  });
  std::vector<double> latencies_ms;
  try {
    latencies_ms = ReadLatencies(kafka, events, kEvents, kEvents / 5);
  } catch (const StartError& error) {
    note(Result<Nothing>(Error{Code::kUnavailable, error.what(), ""}));
  }
  publishing.join();
  stop = true;
  engine.join();
  if (failure) throw StartError(failure->message);
  if (latencies_ms.empty()) return;
  std::sort(latencies_ms.begin(), latencies_ms.end());
  const auto at = [&](size_t percent) { return latencies_ms[latencies_ms.size() * percent / 100]; };
  std::printf("  at %zu events/s, event made to outcome read: p50 %.1f ms, p99 %.1f ms\n",
              kEventsPerSecond, at(50), at(99));
}

// ---- Time ---------------------------------------------------------------------------------------

double Megabytes() {
  std::ifstream pages("/proc/self/statm");
  double all = 0;
  double resident = 0;
  pages >> all >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

// A line each so often, until the time is over or `stop` is set.
void PrintSteady(const BenchKafkaArguments& arguments, const Processor& processor,
                 const std::atomic<bool>& stop) {
  constexpr int kLines = 20;
  const double seconds = 60 * arguments.minutes;
  std::printf("  %8s %12s %14s %10s %8s\n", "seconds", "outcomes", "us of CPU each", "behind",
              "MB");
  const auto begun = Clock::now();
  uint64_t outcomes_before = 0;
  double cpu_before = CpuSeconds();
  for (int line = 1; line <= kLines && !stop && !stop_requested; ++line) {
    const auto next = begun + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(seconds * line / kLines));
    while (Clock::now() < next && !stop && !stop_requested) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const uint64_t outcomes = processor.progress().outcomes;
    const double cpu = CpuSeconds();
    const double passed = std::chrono::duration<double>(Clock::now() - begun).count();
    const auto more = static_cast<double>(std::max<uint64_t>(1, outcomes - outcomes_before));
    std::printf("  %8.0f %12llu %14.2f %10.0f %8.0f\n", passed,
                static_cast<unsigned long long>(outcomes), 1e6 * (cpu - cpu_before) / more,
                std::max(0.0, passed * arguments.rate - static_cast<double>(outcomes)),
                Megabytes());
    std::fflush(stdout);
    outcomes_before = outcomes;
    cpu_before = cpu;
  }
}

// Events at a steady rate through publisher and engine for some minutes: what they take, and
// whether memory stays where it is.
void BenchSteady(const Config& config, const BenchKafkaArguments& arguments,
                 const KafkaOptions& kafka) {
  const ScratchFolder folder;
  MakeTopics(kafka, arguments.partitions);
  ProcessorOptions options = EngineOptions(config, arguments, folder);
  const auto backend = MakeTemplateBackend({.dimension = arguments.dimension});
  KafkaClient client(kafka);
  KafkaSink sink(client);
  KafkaSource source(client);
  options.partition_count = client.partitions();
  Processor processor(options, {}, *backend, source, sink);
  const auto events = static_cast<size_t>(60 * arguments.minutes * arguments.rate);
  std::printf("%zu events at %.0f a second, memory of engine and publisher together\n", events,
              arguments.rate);
  std::atomic<bool> stop{false};
  std::optional<Error> failure;
  std::thread publishing([&] {
    GeneratedSource generated(Generated(arguments, kEverything, events));
    KafkaPublisher publisher(kafka);
    const auto sent = publisher.Publish(generated, {.events_per_second = arguments.rate}, stop);
    if (sent.ok()) return;
    failure = sent.error();
    stop = true;
  });
  std::thread printing([&] {
    PrintSteady(arguments, processor, stop);
    stop = true;
  });
  const auto done = processor.Run(stop);
  stop = true;
  printing.join();
  publishing.join();
  if (!done.ok()) throw StartError(done.error().message);
  if (failure) throw StartError(failure->message);
}

// Publishes and runs for nothing: a broker that has just started is busy compiling itself, and the
// first of two runs that are compared would pay for it.
void WarmUp(const Config& config, const BenchKafkaArguments& arguments, KafkaOptions kafka) {
  kafka.input_topic += "-warm-up";
  MakeTopics(kafka, arguments.partitions);
  GeneratedSource events(Generated(arguments, kDocuments, arguments.events));
  KafkaPublisher publisher(kafka);
  const auto published = publisher.Publish(events, {}, stop_requested);
  if (!published.ok()) throw StartError(published.error().message);
  if (!stop_requested) RunOnce(config, arguments, Named(kafka, "warm-up"), nullptr);
}

void BenchLoad(const Config& config, const BenchKafkaArguments& arguments, KafkaOptions kafka,
               const Load& load) {
  kafka.input_topic += std::string("-") + load.topic;
  MakeTopics(kafka, arguments.partitions);
  GeneratedSource events(Generated(arguments, load, arguments.events));
  KafkaPublisher publisher(kafka);
  const auto published = publisher.Publish(events, {}, stop_requested);
  if (!published.ok()) throw StartError(published.error().message);
  if (stop_requested) return;
  std::printf("%s: %zu events of %zu tenants on %d partitions\n", load.name, arguments.events,
              arguments.tenants, arguments.partitions);
  const std::string name = load.topic;
  const KafkaOptions exact = Named(kafka, name + "-exactly");
  const double once = RunOnce(config, arguments, exact, "exactly-once");
  if (stop_requested) return;
  kafka.delivery = KafkaOptions::Delivery::kAtLeastOnce;
  const double at_least =
      RunOnce(config, arguments, Named(kafka, name + "-at-least"), "at-least-once");
  if (stop_requested) return;
  std::printf("  exactly once runs at %.0f %% of at least once\n", 100 * once / at_least);
  const double again = RunOnce(config, arguments, exact, "replay", true);
  if (stop_requested) return;
  std::printf("  a restart without a state repeats at %.1f times the speed of exactly once\n",
              again / once);
}

}  // namespace

int BenchKafka(const BenchKafkaArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  KafkaOptions kafka = ToKafkaOptions(config);
  const std::string prefix = "nudge-bench-" + std::to_string(getpid());
  kafka.group_id = prefix;
  kafka.input_topic = prefix + "-events";
  kafka.response_topic = prefix + "-responses";
  kafka.receipt_topic = prefix + "-receipts";
  kafka.dead_letter_topic = prefix + "-dead-letters";
  std::printf("kafka: topics %s-*, template backend%s\n", prefix.c_str(),
              arguments.minutes > 0 ? "" : "; the broker is warmed up first");
  std::fflush(stdout);
  if (arguments.minutes > 0) {
    BenchSteady(config, arguments, kafka);
  } else {
    WarmUp(config, arguments, kafka);
    if (!stop_requested) BenchLoad(config, arguments, kafka, kEverything);
    if (!stop_requested) BenchLoad(config, arguments, kafka, kDocuments);
    if (!stop_requested) BenchLatency(config, arguments, kafka);
  }
  return stop_requested ? kExitInterrupted : kExitDone;
}

}  // namespace nudge
