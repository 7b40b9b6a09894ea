// `nudge check`: is this configuration, or this file of events, as it should be?
#include <iostream>

#include "connectors/codec.h"
#include "connectors/file_source.h"
#include "pipeline/commands/commands.h"

namespace nudge {
namespace {

int CheckEvents(const std::string& path) {
  FileSource source({.path = path});
  Record record;
  uint64_t events = 0;
  uint64_t refused = 0;
  while (!stop_requested) {
    const Result<Source::Pull> pull = source.Next(record, std::chrono::milliseconds(100));
    if (!pull.ok()) {
      std::cout << path << ": " << pull.error().message << "\n";
      return kExitFailed;
    }
    if (*pull == Source::Pull::kEnd) break;
    if (*pull == Source::Pull::kNothing) continue;
    ++events;
    const Result<Event> event =
        record.refusal ? Result<Event>(record.refusal->error) : DecodeEvent(record.bytes, {});
    if (event.ok()) continue;
    ++refused;
    std::cout << path << ":" << record.offset + 1 << ": " << Name(event.error().code) << ": "
              << event.error().message << "\n";
  }
  std::cout << events << " events, " << refused << " refused\n";
  return refused == 0 ? kExitDone : kExitFailed;
}

// What the gates of lessons cannot see with this configuration; none: they see all that they can.
std::vector<std::string> Blindness(const Config& config) {
  std::vector<std::string> blind;
  if (!config.processor.adapt.enabled || config.model.backend == "template") return blind;
  const LocalBackendOptions& local = config.model.local;
  if (local.anchors_path.empty() || local.learner.anchors_per_step == 0) {
    blind.emplace_back(
        "adapt: without anchors (adapt.anchors_path, adapt.anchors_per_step) no lesson is seen to "
        "move the model away from what it knows");
  } else if (local.learner.kl_cap == 0) {
    blind.emplace_back("adapt.kl_cap is 0: no lesson is taken back for moving the model too far");
  }
  if (local.learner.evidence_nats == 0) {
    blind.emplace_back(
        "adapt.evidence_nats is 0: lessons that do not follow from their questions are learnt");
  }
  if (local.learner.canary_drop_max == 0) {
    blind.emplace_back(
        "adapt.canary_drop_max is 0: lessons behind which documents are not read any more are "
        "learnt");
  }
  if (config.processor.adapt.lead_lessons == 0 && !config.processor.adapt.is_by_user()) {
    blind.emplace_back("adapt.lead_lessons is 0: whoever teaches most teaches everybody's model");
  }
  return blind;
}

}  // namespace

int Check(const CheckArguments& arguments) {
  if (arguments.schema) {
    std::cout << ConfigSchema();
    return kExitDone;
  }
  if (arguments.tables) {
    std::cout << ConfigTables();
    return kExitDone;
  }
  if (arguments.events) return CheckEvents(arguments.path);
  const Config config = ReadConfig(arguments.path);
  RequireInputs(config);
  std::cout << arguments.path << ": fine; semantic configuration sha256 " << SemanticSha256(config)
            << "\n";
  for (const std::string& sentence : Blindness(config)) std::cout << "  " << sentence << "\n";
  return kExitDone;
}

}  // namespace nudge
