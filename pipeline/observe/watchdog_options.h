// How long a run may stand still before it says so: see watchdog.h.
#pragma once

#include <chrono>

#include "stages/options.h"

namespace nudge {

struct WatchdogOptions {
  std::chrono::milliseconds silent{60'000};  // 0: is not watched
  std::chrono::milliseconds poll{30'000};    // 0: is not watched
};

keys::Fields OptionsOf(WatchdogOptions& options);

}  // namespace nudge
