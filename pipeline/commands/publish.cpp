// `nudge publish`: recorded events into the input topic.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "connectors/file_source.h"
#include "connectors/kafka.h"
#include "pipeline/commands/commands.h"

namespace nudge {

int Publish(const PublishArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  KafkaOptions kafka = ToKafkaOptions(config);
  kafka.log = [](std::string_view line) {
    std::cerr << ("nudge: kafka: " + std::string(line) + "\n");
  };
  const CreateTopicsArguments& topics = arguments.create_topics;
  if (topics.wanted) {
    const auto made =
        CreateTopics(kafka, topics.partitions, static_cast<int16_t>(topics.replication));
    if (!made.ok()) throw StartError(made.error().message);
  }
  FileSource events(
      {.path = arguments.input, .line_bytes = config.processor.graph.limits.line_bytes});
  KafkaPublisher publisher(kafka);
  PublishOptions options;
  options.events_per_second = arguments.events_per_second;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal) {
    options.on_progress = [&](uint64_t delivered) {
      const auto total = events.bytes_total();
      std::fprintf(stderr, "\r%llu events", static_cast<unsigned long long>(delivered));
      if (total && *total > 0) {
        std::fprintf(
            stderr, ", %3.0f %% of the file",
            100.0 * static_cast<double>(events.bytes_read()) / static_cast<double>(*total));
      }
    };
  }
  const Result<PublishReport> report = publisher.Publish(events, options, stop_requested);
  if (terminal) std::fprintf(stderr, "\n");
  if (!report.ok()) {
    std::cerr << "nudge: " << report.error().message << "\n";
    return report.error().code == Code::kUnavailable ? kExitUnavailable : kExitFailed;
  }
  std::printf("%llu events published to %s, %llu refused, %llu failed\n",
              static_cast<unsigned long long>(report->delivered), kafka.input_topic.c_str(),
              static_cast<unsigned long long>(report->refused),
              static_cast<unsigned long long>(report->failed));
  if (!report->first_error.empty()) std::cerr << "nudge: " << report->first_error << "\n";
  if (stop_requested) return kExitInterrupted;
  return report->refused + report->failed == 0 ? kExitDone : kExitFailed;
}

}  // namespace nudge
