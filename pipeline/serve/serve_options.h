// What the door holds at most, and how fresh the state is that it shows: see embedded_door.h,
// outcome_index.h and snapshot_board.h.
#pragma once

#include <chrono>
#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct ServeOptions {
  uint32_t in_flight_max = 10'000;
  uint64_t outcomes_kept_bytes_max = 64 << 20;
  uint32_t snapshot_news_max = 10'000;
  std::chrono::milliseconds checkpoint{2'000};  // see ProcessorOptions::checkpoint_every; 0: none
};

keys::Fields OptionsOf(ServeOptions& options);

}  // namespace nudge
