// What one checkpoint of a partition holds: Barrier -> Cut -> StateStore. Plain values.
#pragma once

#include <cstdint>

#include "stages/hash.h"
#include "stages/state.h"

namespace nudge {

// Everything that a partition's state is, as changes since the cut before.
struct Cut {
  int32_t partition = 0;
  uint64_t follows = 0;     // events of the cut before, to whose state alone these changes apply
  uint64_t events = 0;      // applied so far: the next event's ordinal
  int64_t next_offset = 0;  // of the input log
  Sha256Digest chain{};     // of the outcome log after the event
  Changes changes;
  bool forgets = false;  // something was forgotten since the cut before: nothing may keep it
};

}  // namespace nudge
