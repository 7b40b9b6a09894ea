#include "stages/stop_run.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "stages/exit_code.h"
#include "stages/log.h"

namespace nudge {

void StopRun(const char* problem, const char* remedy) {
  char line[1024];  // on the stack: there may be no memory
  const int size = std::snprintf(
      line, sizeof line, "%s: the run stops here, what was committed stands: %s", problem, remedy);
  Log(LogLevel::kError, {line, std::min(static_cast<size_t>(std::max(size, 0)), sizeof line - 1)});
  std::_Exit(kExitFailed);
}

}  // namespace nudge
