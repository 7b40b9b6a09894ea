// The threads of the models and what may wait for them: see executor.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "stages/model/learn/tenant_adapters_options.h"
#include "stages/options.h"

namespace nudge {

struct ExecutorOptions {
  size_t threads = 2;  // 1..256; the backend has as many slots
  // Lessons that may wait to be learnt. Beyond them receipts wait for their lessons, and with them
  // the credits of their events: feedback that comes faster than it can be learnt slows its source.
  size_t lessons_waiting_max = 256;
  std::string snapshot_folder;      // empty: no snapshots
  std::string import_store_folder;  // empty: imported adapters are not kept
  std::string checkpoint_folder;    // of learners; empty: the system's temporary folder
  TenantAdaptersOptions adapters;
};

keys::Fields OptionsOf(ExecutorOptions& options);

}  // namespace nudge
