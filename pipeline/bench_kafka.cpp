// `nudge bench kafka`: live topics through the engine, exactly once and at least once side by side.
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "pipeline/bench.h"
#include "pipeline/bench_tools.h"
#include "pipeline/commands.h"
#include "pipeline/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

// Events as they are asked for, none of them malformed: each has a tenant.
class Generated final : public Source {
 public:
  Generated(size_t events, size_t tenants)
      : generator_({.seed = 9, .events = events, .tenants = tenants, .with_faults = false}),
        events_(events) {}
  void Listen(PartitionListener&) override {}
  Result<Pull> Next(Record& record, std::chrono::milliseconds) override {
    if (next_ == events_) return Pull::kEnd;
    record = {0, static_cast<int64_t>(next_), "", generator_.Line(next_), {}};
    ++next_;
    return Pull::kRecord;
  }
  Result<Nothing> Seek(int32_t, int64_t) override { return Nothing{}; }
  void Pause(int32_t) override {}
  void Resume(int32_t) override {}

 private:
  EventGenerator generator_;
  const size_t events_;
  uint64_t next_ = 0;
};

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
  ProcessorOptions options = ToProcessorOptions(config);
  options.state_folder = folder.path() + "/state";
  options.checkpoint_every_events = 10'000;
  options.graph.threads = arguments.threads;
  options.executor.threads = static_cast<size_t>(arguments.threads);
  const auto backend = MakeTemplateBackend({.dimension = arguments.dimension});
  KafkaClient client(kafka);
  KafkaSink sink(client);
  KafkaSource source(client);
  options.partition_count = client.partitions();
  std::atomic<bool> stop{false};
  uint64_t outcomes = 0;
  Clock::time_point first, last;
  double cpu_first = 0, cpu_last = 0;
  Processor processor(options,
                      {[&](const OutcomeLine&) {
                         if (outcomes == 0) {
                           first = Clock::now();
                           cpu_first = CpuSeconds();
                         }
                         if (++outcomes == arguments.events) {
                           last = Clock::now();
                           cpu_last = CpuSeconds();
                           stop = true;
                         }
                         if (stop_requested) stop = true;
                       },
                       {},
                       {}},
                      *backend, source, sink);
  const auto done = processor.Run(stop);
  if (!done.ok()) throw StartError(done.error().message);
  if (stop_requested) return 0;
  const double seconds = std::chrono::duration<double>(last - first).count();
  const KafkaStatistics statistics = client.statistics();
  const auto events = static_cast<double>(arguments.events);
  const double cpu_seconds = cpu_last - cpu_first;
  std::printf("  %-14s %9.0f events/s %7.2f us of CPU an event %6llu commits, peak %.0f MB\n", name,
              events / seconds, 1e6 * cpu_seconds / events,
              static_cast<unsigned long long>(statistics.commits), PeakMegabytes());
  PrintCosts(processor.metrics(), processor.executor(), events, cpu_seconds);
  return events / seconds;
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
  Generated events(arguments.events, arguments.tenants);
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
  std::printf("  exactly once runs at %.0f %% of at least once\n", 100 * once / at_least);
  return kExitDone;
}

}  // namespace nudge
