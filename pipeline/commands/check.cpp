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
  return kExitDone;
}

}  // namespace nudge
