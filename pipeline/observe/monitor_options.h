// Where a run says of itself what it does: see monitor.h.
#pragma once

#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct MonitorOptions {
  std::string address = "127.0.0.1";
  uint32_t port = 0;  // 0: none
};

keys::Fields OptionsOf(MonitorOptions& options);

}  // namespace nudge
