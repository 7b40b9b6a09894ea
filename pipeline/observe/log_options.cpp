#include "pipeline/observe/log_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(LogOptions& options) {
  using enum Effect;
  return {
      {"log.level", Choice{&options.level, {"debug", "info", "warning", "error"}}, "", kOperational,
       "lines below it are left out"},
      {"log.format", Choice{&options.format, {"text", "json"}}, "", kOperational,
       "json: an object a line, with time, level and message"},
  };
}

}  // namespace nudge
