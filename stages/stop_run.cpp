#include "stages/stop_run.h"

#include <cstdio>
#include <cstdlib>

#include "stages/exit_code.h"

namespace nudge {

void StopRun(const char* problem, const char* remedy) {
  std::fprintf(stderr, "nudge: %s: the run stops here, what was committed stands\n  %s\n", problem,
               remedy);
  std::fflush(stderr);
  std::_Exit(kExitFailed);
}

}  // namespace nudge
