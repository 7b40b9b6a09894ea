// How much of its past a tenant's learner keeps at hand: see tenant_adapters.h.
#pragma once

#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct TenantAdaptersOptions {
  // A checkpoint of the learner each so many lessons, 1 or more: a rollback or a forget learns
  // fewer lessons than this again, as long as the checkpoint is there.
  uint32_t checkpoint_every_lessons = 8;
  uint64_t checkpoint_bytes = uint64_t{512} << 20;  // per tenant, on disk
};

keys::Fields OptionsOf(TenantAdaptersOptions& options);

}  // namespace nudge
