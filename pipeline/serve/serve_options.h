// What the door holds at most: see embedded_door.h and outcome_index.h.
#pragma once

#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct ServeOptions {
  uint32_t in_flight_max = 10'000;
  uint64_t outcomes_kept_bytes_max = 64 << 20;
};

keys::Fields OptionsOf(ServeOptions& options);

}  // namespace nudge
