// Where every adapter begins: shape, seed -> [NewAdapter] -> LoraWeights. Pure function, any
// thread.
#pragma once

#include <cstdint>

#include "stages/model/trainer/lora.h"

namespace nudge {

// A from a uniform distribution over +-1 / sqrt(in) (He et al. 2015 with a = sqrt(5)), B zero: the
// base model exactly. Value i is drawn with UniformAt(RandomAt(seed, 0), i).
LoraWeights NewAdapter(const LoraShape& shape, uint64_t seed);

}  // namespace nudge
