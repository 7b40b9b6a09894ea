// What the suites of the state store share.
#pragma once

#include "pipeline/state/state_store.h"
#include "tests/temp_folder.h"

namespace nudge::testing {

inline const StateIdentity kIdentity{"models", "configuration"};
inline constexpr StateStoreOptions kNoBackups{.backup_every_cuts = 0};
inline constexpr StateStoreOptions kEachCut{.backup_every_cuts = 1};
inline constexpr int64_t kAny = 1'000'000;

}  // namespace nudge::testing
