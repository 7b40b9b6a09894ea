// `nudge gateway`: the HTTP door before live topics, until it is told to stop.
#include "connectors/http/http_server.h"
#include "connectors/kafka.h"
#include "pipeline/commands/commands.h"
#include "pipeline/observe/log_sink.h"
#include "pipeline/observe/monitor.h"
#include "pipeline/serve/kafka_door.h"
#include "stages/log.h"

namespace nudge {
namespace {

void Say(const std::string& line) {
  Log(LogLevel::kInfo, line);
}

}  // namespace

int RunGateway(const GatewayArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  OpenLog(config.log);
  KafkaDoorOptions options = ToKafkaDoorOptions(config);
  options.kafka.log = [](std::string_view line) {
    Log(LogLevel::kWarning, "kafka: " + std::string(line));
  };
  const CreateTopicsArguments& topics = arguments.create_topics;
  if (topics.wanted) {
    const auto made =
        CreateTopics(options.kafka, topics.partitions, static_cast<int16_t>(topics.replication));
    if (!made.ok()) return LogFailure(made.error());
  }
  std::optional<Monitor> monitor;
  std::optional<Monitor::Watch> starting;
  if (config.gateway.monitor_port > 0) {
    monitor.emplace(config.monitor.address, static_cast<uint16_t>(config.gateway.monitor_port));
    starting.emplace(*monitor, [] { return GatewayView{}; });
    Say("monitor: " + UrlOf(config.monitor.address, monitor->port()) + "/status");
  }
  KafkaDoor door(options, stop_requested);
  const Result<bool> caught_up = door.CatchUp();
  if (!caught_up.ok()) return LogFailure(caught_up.error());
  if (!*caught_up && !stop_requested) {
    Log(LogLevel::kWarning,
        "the outcomes of the look-back are not read yet, for brokers are slow: they are read on");
  }
  const HttpServer server(config.http, door, config.processor.graph.limits);
  Say("serving at " + UrlOf(config.http.address, server.port(), !config.http.tls_key_file.empty()) +
      "; events into " + options.kafka.input_topic + " at " + options.kafka.brokers + "; " +
      std::to_string(door.OutcomesHeld()) + " outcomes held");
  starting.reset();
  std::optional<Monitor::Watch> watch;
  if (monitor) {
    watch.emplace(*monitor, [&] {
      GatewayView view = door.View();
      view.http = server.counts();
      return view;
    });
  }
  const Result<Nothing> done = door.Run();
  if (!done.ok()) return LogFailure(done.error());
  const KafkaDoor::Counts counts = door.counts();
  Say("stopped after " + std::to_string(counts.stored) + " events; " +
      std::to_string(counts.outcomes) + " outcomes were read");
  return kExitDone;
}

}  // namespace nudge
