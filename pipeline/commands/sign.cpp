// `nudge sign`: the commands among recorded events, signed for who demands it.
#include <iostream>

#include "connectors/codec.h"
#include "connectors/command_keys.h"
#include "connectors/file_source.h"
#include "pipeline/commands/commands.h"

namespace nudge {
namespace {

// As wide as a configuration may make them: whoever reads the event judges its size.
EventLimits WidestLimits() {
  EventLimits limits;
  for (const keys::Field& field : OptionsOf(limits)) {
    const auto* const number = std::get_if<keys::Number<uint64_t>>(&field.slot);
    if (number != nullptr) *number->at = static_cast<uint64_t>(number->most);
  }
  return limits;
}

}  // namespace

int SignEvents(const SignArguments& arguments) {
  const Result<SigningKey> key = SigningKey::Read(arguments.key_file);
  if (!key.ok()) return FailWith(key.error(), kExitFailed);
  const EventLimits limits = WidestLimits();
  FileSource source({.path = arguments.input, .line_bytes = limits.line_bytes});
  Record record;
  while (!stop_requested) {
    const Result<Source::Pull> pull = source.Next(record, std::chrono::milliseconds(100));
    if (!pull.ok()) return FailWith(pull.error(), kExitFailed);
    if (*pull == Source::Pull::kEnd) break;
    if (*pull == Source::Pull::kNothing) continue;
    const Result<Event> event =
        record.refusal ? Result<Event>(record.refusal->error) : DecodeEvent(record.bytes, limits);
    if (!event.ok()) {
      const Error& error = event.error();
      return FailWith(
          {error.code,
           arguments.input + ":" + std::to_string(record.offset + 1) + ": " + error.message,
           error.remedy},
          kExitFailed);
    }
    std::cout << (IsCommand(*event) ? key->Sign(*event) : record.bytes) << "\n";
  }
  if (stop_requested) return kExitInterrupted;
  std::cout.flush();
  return std::cout ? kExitDone : kExitFailed;
}

}  // namespace nudge
