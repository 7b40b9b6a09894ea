// What GET /v1/lessons answers: state folder, LessonsAsked -> [LessonsPageJson] -> JSON.
//
// It reads the state that this process saved last, beside the run. Blocking; any thread.
#pragma once

#include <string>

#include "connectors/http/door.h"

namespace nudge {

// kUnavailable: no state is kept, or there is none yet. kUnreadableFile: it cannot be read.
Result<std::string> LessonsPageJson(const std::string& state_folder, const LessonsAsked& asked);

}  // namespace nudge
