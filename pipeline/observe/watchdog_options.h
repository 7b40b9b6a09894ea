// How long a run may stand still before it says so: see watchdog.h.
#pragma once

#include <chrono>

namespace nudge {

struct WatchdogOptions {
  std::chrono::milliseconds silent{0};  // 0: is not watched
  std::chrono::milliseconds poll{0};    // 0: is not watched
};

}  // namespace nudge
