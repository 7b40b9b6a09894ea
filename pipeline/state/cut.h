// What one checkpoint of a partition holds: Barrier -> Cut -> StateStore. Plain values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

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

// `later`, which follows `cut`, becomes part of it: as if no cut had been taken in between. An
// entry that both changed is there twice, and the last one counts.
inline void Extend(Cut& cut, Cut later) {
  cut.events = later.events;
  cut.next_offset = later.next_offset;
  cut.chain = later.chain;
  cut.forgets = cut.forgets || later.forgets;
  cut.changes.insert(cut.changes.end(), std::make_move_iterator(later.changes.begin()),
                     std::make_move_iterator(later.changes.end()));
}

// Leaves of each entry the last change, in the order of the last changes.
inline void DropOverwritten(Changes& changes) {
  std::set<std::tuple<std::string_view, std::string_view, std::string_view>> seen;
  auto kept = changes.rbegin();  // what is kept stands behind it
  for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
    if (seen.contains({change->tenant, change->kind, change->id})) continue;
    if (change != kept) *kept = std::move(*change);
    seen.insert({kept->tenant, kept->kind, kept->id});
    ++kept;
  }
  changes.erase(changes.begin(), kept.base());
}

}  // namespace nudge
