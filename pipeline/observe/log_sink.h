// The log of a live run: Log -> [spdlog] -> standard error, with time and level.
//
//   2026-11-29T01:02:03.456Z info message
//   {"time":"2026-11-29T01:02:03.456Z","level":"info","message":"message"}
//
// At start-up, before other threads.
#pragma once

#include "pipeline/observe/log_options.h"

namespace nudge {

// From here on every Log goes there. Throws StartError where there is no memory for it.
void OpenLog(const LogOptions& options);

}  // namespace nudge
