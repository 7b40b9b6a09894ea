// What follows from the whole configuration for a part: the conversions of config.h.
#include <filesystem>

#include "pipeline/config/config.h"
#include "pipeline/serve/adapter_follower.h"
#include "pipeline/serve/kafka_door.h"
#include "pipeline/serve/serving.h"

namespace nudge {

std::string StateFolder(const Config& config) {
  if (!config.checkpoint.enabled) return "";
  if (!config.checkpoint.folder.empty()) return config.checkpoint.folder;
  return (std::filesystem::path(config.output.folder) / "state").string();
}

ProcessorOptions ToProcessorOptions(const Config& config) {
  ProcessorOptions options = config.processor;
  options.recall.documents_per_tenant = options.index.documents_per_tenant;
  options.recall.chunks_per_tenant = options.index.chunks_per_tenant;
  options.recall.default_prompt_id = options.prompt.default_prompt_id;
  options.recall.adapters_by_user = options.adapt.is_by_user();
  options.recall.keeps_commands = !options.graph.commands.keys_file.empty();
  options.executor.snapshot_folder =
      (std::filesystem::path(config.output.folder) / "snapshots").string();
  options.state_folder = StateFolder(config);
  options.configuration_sha256 = SemanticSha256(config);
  return options;
}

namespace {

std::string ModelName(const Config& config) {
  if (config.model.backend == "template") return "template";
  return std::filesystem::path(config.model.local.language_model).stem();
}

}  // namespace

ServingOptions ToServingOptions(const Config& config) {
  if (config.event_log.folder.empty()) {
    throw StartError("event_log.folder: missing: where `nudge serve` keeps its events");
  }
  if (!config.processor.graph.commands.keys_file.empty()) {
    throw StartError(
        "commands.keys_file: leave it out for `nudge serve`: its door knows who may command, and "
        "nobody else writes to its log");
  }
  ProcessorOptions processor = ToProcessorOptions(config);
  processor.checkpoint_every = config.serve.checkpoint;
  return {.processor = std::move(processor),
          .event_log = config.event_log,
          .serve = config.serve,
          .output_folder = config.output.folder,
          .models = {ModelName(config)}};
}

KafkaOptions ToKafkaOptions(const Config& config) {
  if (config.kafka.brokers.empty()) {
    throw StartError("kafka.brokers: missing: HOST:PORT of the brokers");
  }
  KafkaOptions options = config.kafka;
  options.line_bytes = config.processor.graph.limits.line_bytes;
  return options;
}

AdapterFollowerOptions ToAdapterFollowerOptions(const Config& config) {
  if (config.processor.adapt.is_by_user()) {
    throw StartError(
        "adapt.scope: user: a snapshot does not say whose it is, so that nobody could ask for it: "
        "`nudge follow` offers adapters of tenants alone");
  }
  const std::filesystem::path output = config.output.folder;
  AdapterFollowerOptions options{.follow = config.follow,
                                 .snapshot_folder = (output / "snapshots").string(),
                                 .outcomes_path = (output / "outcomes.jsonl").string(),
                                 .kafka = {}};
  if (!config.kafka.brokers.empty()) options.kafka = ToKafkaOptions(config);
  if (options.follow.state_folder.empty()) {
    options.follow.state_folder = (output / "follow").string();
  }
  if (options.follow.lora_folder.empty()) {
    options.follow.lora_folder = std::filesystem::absolute(options.snapshot_folder).string();
  }
  return options;
}

KafkaDoorOptions ToKafkaDoorOptions(const Config& config) {
  return {.kafka = ToKafkaOptions(config),
          .gateway = config.gateway,
          .limits = config.processor.graph.limits,
          .models = {ModelName(config)}};
}

}  // namespace nudge
