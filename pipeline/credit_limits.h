// How much of a partition may be in flight: see credits.h.
#pragma once

#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct CreditLimits {
  uint64_t events = 4096;        // per partition, 1..
  uint64_t bytes = 64ull << 20;  // per partition; one event larger than this still passes alone
};

keys::Fields OptionsOf(CreditLimits& options);

}  // namespace nudge
