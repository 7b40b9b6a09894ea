// `nudge run`: live topics through the loop, until it is told to stop.
#include <cstdio>
#include <filesystem>
#include <thread>

#include "connectors/kafka.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/observe/log_sink.h"
#include "pipeline/observe/monitor.h"
#include "pipeline/processor.h"
#include "stages/guarded.h"
#include "stages/log.h"

namespace nudge {
namespace {

constexpr std::chrono::seconds kSayEvery{10};

void Say(const std::string& line) {
  Log(LogLevel::kInfo, line);
}

// Says every few seconds how far it is, and at the end.
class Reporter {
 public:
  Reporter(const Processor& processor, const KafkaClient& client)
      : processor_(processor), client_(client), thread_([this] { Work(); }) {}
  ~Reporter() {
    {
      const MutexLock lock(mutex_);
      done_ = true;
    }
    changed_.NotifyAll();
    thread_.join();
  }
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

 private:
  void Work() {
    const MutexLock lock(mutex_);
    uint64_t said = 0;
    while (!changed_.WaitFor(mutex_, kSayEvery, [&]() REQUIRES(mutex_) { return done_; })) {
      const OutcomeCounts progress = processor_.progress();
      if (progress.outcomes != said) Line(progress);
      said = progress.outcomes;
    }
    Line(processor_.progress());
  }

  void Line(const OutcomeCounts& progress) const {
    const KafkaStatistics statistics = client_.statistics();
    int64_t lag = 0;
    for (const auto& [number, partition] : statistics.partitions) lag += partition.lag_events;
    Say(std::to_string(progress.outcomes) + " events (" + std::to_string(progress.responses) +
        " answers, " + std::to_string(progress.receipts) + " receipts, " +
        std::to_string(progress.dead_letters) + " dead letters), " + std::to_string(lag) +
        " waiting in " + std::to_string(statistics.partitions.size()) + " partitions");
  }

  const Processor& processor_;
  const KafkaClient& client_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

RunView ViewOf(Processor& processor, const KafkaClient& client) {
  RunView view = processor.View();
  const KafkaOptions& options = client.options();
  view.kafka = {options.group_id, options.instance_id, options.input_topic, client.statistics()};
  return view;
}

}  // namespace

int RunLive(const RunArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  OpenLog(config.log);
  RequireInputs(config);
  KafkaOptions kafka = ToKafkaOptions(config);
  kafka.log = [](std::string_view line) { Log(LogLevel::kWarning, "kafka: " + std::string(line)); };
  std::optional<Monitor> monitor;
  if (config.monitor.port > 0) {
    monitor.emplace(config.monitor.address, static_cast<uint16_t>(config.monitor.port));
    Say("monitor: http://" + config.monitor.address + ":" + std::to_string(monitor->port()) +
        "/status");
  }
  const CreateTopicsArguments& topics = arguments.create_topics;
  if (topics.wanted) {
    const auto made =
        CreateTopics(kafka, topics.partitions, static_cast<int16_t>(topics.replication));
    if (!made.ok()) return LogFailure(made.error());
  }
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  KafkaClient client(kafka);
  KafkaSink sink(client);
  KafkaSource source(client);
  ProcessorOptions options = ToProcessorOptions(config);
  options.partition_count = client.partitions();
  Processor processor(options,
                      {{}, {}, [](const std::string& notice) { Log(LogLevel::kWarning, notice); }},
                      *backend, source, sink);
  Say("serving " + kafka.input_topic + " as " + kafka.group_id + "/" + kafka.instance_id + ", " +
      std::to_string(client.partitions()) + " partitions; " + backend->description());
  Result<std::map<int32_t, PartitionSummary>> done = Error{};
  {
    const Reporter reporter(processor, client);
    std::optional<Monitor::Watch> watch;
    if (monitor) watch.emplace(*monitor, [&] { return ViewOf(processor, client); });
    done = processor.Run(stop_requested);
  }
  if (!done.ok()) return LogFailure(done.error());
  return kExitDone;
}

}  // namespace nudge
