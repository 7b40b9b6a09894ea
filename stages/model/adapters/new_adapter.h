// Where every adapter begins: shape, seed -> [NewAdapter] -> LoraWeights; and how strong it is.
// Pure functions, any thread.
#pragma once

#include <cstdint>

#include "stages/model/trainer/lora.h"

namespace nudge {

// A from a uniform distribution over +-1 / sqrt(in) (He et al. 2015 with a = sqrt(5)), B zero: the
// base model exactly. Value i is drawn with UniformAt(RandomAt(seed, 0), i).
LoraWeights NewAdapter(const LoraShape& shape, uint64_t seed);

// The alpha whose alpha / rank is the scale of an adapter: `alpha` itself, or for rsLoRA
// (Kalajdzievski 2023: alpha / sqrt(rank)) alpha * sqrt(rank).
float PlainAlpha(double alpha, uint32_t rank, bool root_of_rank);

}  // namespace nudge
