// An embedding: [dimension] f32, L2 norm 1, always of one embedder (see Embedder::identity).
#pragma once

#include <vector>

namespace nudge {

using Vector = std::vector<float>;

}  // namespace nudge
