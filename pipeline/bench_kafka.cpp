// `nudge bench kafka`: live topics through the engine, exactly once and at least once side by side.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <optional>
#include <thread>

#include "pipeline/bench.h"
#include "pipeline/bench_tools.h"
#include "pipeline/commands.h"
#include "pipeline/cpu_split.h"
#include "pipeline/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

// None of them malformed: each has a tenant.
GeneratorOptions LoadOf(size_t events, size_t tenants) {
  return {.seed = 9, .events = events, .tenants = tenants, .with_faults = false};
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

// The whole topic once, in events/s; the clock runs from the first outcome that is committed to the
// last. 0: a signal stopped it.
double RunOnce(const Config& config, const BenchKafkaArguments& arguments, KafkaOptions kafka,
               const char* name) {
  const ScratchFolder folder;
  kafka.group_id += std::string("-") + name;
  for (std::string* topic :
       {&kafka.response_topic, &kafka.receipt_topic, &kafka.dead_letter_topic}) {
    *topic += std::string("-") + name;
  }
  if (const auto made = CreateTopics(kafka, arguments.partitions, 1); !made.ok()) {
    throw StartError(made.error().message);
  }
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
  const auto done = processor.Run(stop);
  if (!done.ok()) throw StartError(done.error().message);
  if (stop_requested) return 0;
  const double seconds = std::chrono::duration<double>(last - first).count();
  const KafkaStatistics statistics = client.statistics();
  const auto events = static_cast<double>(arguments.events);
  std::printf("  %-14s %9.0f events/s %6llu commits, peak %.0f MB\n", name, events / seconds,
              static_cast<unsigned long long>(statistics.commits), PeakMegabytes());
  split.Print(events);
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
  if (const auto made = CreateTopics(kafka, arguments.partitions, 1); !made.ok()) {
    throw StartError(made.error().message);
  }
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
  GeneratedSource generated(LoadOf(kEvents, arguments.tenants));
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
  if (const auto made = CreateTopics(kafka, arguments.partitions, 1); !made.ok()) {
    throw StartError(made.error().message);
  }
  GeneratedSource events(LoadOf(arguments.events, arguments.tenants));
  KafkaPublisher publisher(kafka);
  const auto published = publisher.Publish(events, {}, stop_requested);
  if (!published.ok()) throw StartError(published.error().message);
  std::printf("kafka: %zu events of %zu tenants on %d partitions, template backend, topics %s-*\n",
              arguments.events, arguments.tenants, arguments.partitions, prefix.c_str());
  const double once = RunOnce(config, arguments, kafka, "exactly-once");
  if (stop_requested) return kExitInterrupted;
  kafka.delivery = KafkaOptions::Delivery::kAtLeastOnce;
  const double at_least = RunOnce(config, arguments, kafka, "at-least-once");
  if (stop_requested) return kExitInterrupted;
  kafka.delivery = KafkaOptions::Delivery::kExactlyOnce;
  std::printf("  exactly once runs at %.0f %% of at least once\n", 100 * once / at_least);
  BenchLatency(config, arguments, kafka);
  if (stop_requested) return kExitInterrupted;
  return kExitDone;
}

}  // namespace nudge
