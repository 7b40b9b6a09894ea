#include "pipeline/observe/watchdog_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(WatchdogOptions& options) {
  using enum Effect;
  return {
      {"watchdog.silent_ms", Number{&options.silent, 0, 86'400'000}, "", kOperational,
       "without a committed outcome of a partition that has events in flight, until it is "
       "said where the oldest is; 0: never"},
      {"watchdog.poll_ms", Number{&options.poll, 0, 86'400'000}, "", kOperational,
       "in which the source is not asked for events, until it is said; 0: never"},
  };
}

}  // namespace nudge
