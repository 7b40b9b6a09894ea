// `nudge serve`: the whole product in one process, reached over HTTP, until it is told to stop.
#include "connectors/http/http_server.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/observe/log_sink.h"
#include "pipeline/observe/monitor.h"
#include "pipeline/serve/serving.h"
#include "stages/log.h"

namespace nudge {
namespace {

void Say(const std::string& line) {
  Log(LogLevel::kInfo, line);
}

void SayWhatWasDone(const Serving& serving) {
  const OutcomeCounts progress = serving.progress();
  Say("stopped after " + std::to_string(progress.outcomes) + " events (" +
      std::to_string(progress.responses) + " answers, " + std::to_string(progress.receipts) +
      " receipts, " + std::to_string(progress.dead_letters) + " dead letters)");
}

}  // namespace

int Serve(const ServeArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  OpenLog(config.log);
  RequireInputs(config);
  const ServingOptions options = ToServingOptions(config);
  std::optional<Monitor> monitor;
  if (config.monitor.port > 0) {
    monitor.emplace(config.monitor.address, static_cast<uint16_t>(config.monitor.port));
    Say("monitor: " + UrlOf(config.monitor.address, monitor->port()) + "/status");
  }
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  Serving serving(
      options, *backend, [](const std::string& notice) { Log(LogLevel::kWarning, notice); },
      stop_requested);
  if (!arguments.begin_with.empty()) {
    const Result<uint64_t> begun = serving.BeginWith(arguments.begin_with);
    if (!begun.ok()) return LogFailure(begun.error());
    Say(*begun == 0 ? "the log holds events already: nothing of " + arguments.begin_with
                    : "the log begins with " + std::to_string(*begun) + " events of " +
                          arguments.begin_with);
  }
  // From here on clients are heard; what they send waits in the log until the run begins.
  const HttpServer server(config.http, serving.door(), config.processor.graph.limits);
  Say("serving at " + UrlOf(config.http.address, server.port(), !config.http.tls_key_file.empty()) +
      "; events from offset " + std::to_string(serving.extent().end) + " in " +
      config.event_log.folder + "; " + backend->description());
  std::optional<Monitor::Watch> watch;
  if (monitor) {
    watch.emplace(*monitor, [&] {
      RunView view = serving.View();
      view.http = server.counts();
      return view;
    });
  }
  const auto done = serving.Run();
  watch.reset();
  if (!done.ok()) return LogFailure(done.error());
  SayWhatWasDone(serving);
  return kExitDone;
}

}  // namespace nudge
