// How an answer is put together and for how long it is known: see respond.h.
#pragma once

#include <cstddef>

#include "stages/options.h"

namespace nudge {

struct RespondOptions {
  size_t prompt_tokens_max = 1024;
  size_t records_per_tenant = 1'000;
  size_t cache_entries_per_tenant = 1'000;  // 0: no cache
  bool serves_adapters = true;  // false: the base answers, and versions are published only
};

keys::Fields OptionsOf(RespondOptions& options);

}  // namespace nudge
