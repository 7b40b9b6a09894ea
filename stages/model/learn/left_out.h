// What found no room in a step, in tokens: anchors go first, then replayed lessons, then the answer
// that a correction pushes away. A plain value, any thread.
#pragma once

#include <cstddef>

namespace nudge {

struct LeftOut {
  size_t anchors = 0;
  size_t replayed = 0;
  size_t pushed_away = 0;

  bool operator==(const LeftOut&) const = default;
};

}  // namespace nudge
