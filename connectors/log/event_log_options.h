// Where the embedded log lies, how much of it is kept, and how long it waits: see embedded_log.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct EventLogOptions {
  std::string folder;
  uint64_t segment_bytes_max = 64 << 20;  // a new file is begun once one has so many
  uint64_t retention_bytes_max = 0;       // 0: everything is kept
  uint64_t queue_bytes_max = 64 << 20;    // of records that wait for the disk
  std::chrono::milliseconds sync_timeout{30'000};
};

keys::Fields OptionsOf(EventLogOptions& options);

}  // namespace nudge
