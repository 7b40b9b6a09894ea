#include "stages/model/stop_run.h"

#include <cstdio>
#include <cstdlib>

namespace nudge {

void StopRun(const char* problem, const char* remedy) {
  constexpr int kExitFailed = 1;  // docs/OPERATING.md
  std::fprintf(stderr, "nudge: %s: the run stops here, what was committed stands\n  %s\n", problem,
               remedy);
  std::fflush(stderr);
  std::_Exit(kExitFailed);
}

}  // namespace nudge
