// How much of its lessons a tenant keeps: see tenant_adapters.h.
#pragma once

#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct TenantAdaptersOptions {
  uint64_t journal_examples =
      10'000;  // per tenant; the oldest are dropped: they can no longer be unlearnt
};

keys::Fields OptionsOf(TenantAdaptersOptions& options);

}  // namespace nudge
