// `nudge follow`: what is learnt, offered to a vLLM server, until it is told to stop.
#include "pipeline/commands/commands.h"
#include "pipeline/observe/log_sink.h"
#include "pipeline/serve/adapter_follower.h"
#include "stages/log.h"

namespace nudge {

int Follow(const FollowArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  OpenLog(config.log);
  AdapterFollowerOptions options = ToAdapterFollowerOptions(config);
  if (options.kafka) {
    options.kafka->log = [](std::string_view line) {
      Log(LogLevel::kWarning, "kafka: " + std::string(line));
    };
  }
  AdapterFollower follower(options,
                           {[](const std::string& line) { Log(LogLevel::kInfo, line); },
                            [](const std::string& line) { Log(LogLevel::kWarning, line); }});
  Log(LogLevel::kInfo,
      "following " +
          (options.kafka ? options.kafka->receipt_topic + " at " + options.kafka->brokers
                         : options.outcomes_path) +
          "; adapters in " + options.snapshot_folder + " to " + options.follow.server_url);
  const Result<Nothing> done = follower.Run(stop_requested);
  if (!done.ok()) return LogFailure(done.error());
  const AdapterFollower::Counts counts = follower.counts();
  Log(LogLevel::kInfo, "stopped after " + std::to_string(counts.loaded) + " adapters loaded, " +
                           std::to_string(counts.taken_away) + " taken away");
  return kExitDone;
}

}  // namespace nudge
