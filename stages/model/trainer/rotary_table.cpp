#include "stages/model/trainer/rotary_table.h"

#include <cmath>

namespace nudge {

RotaryTable::RotaryTable(const FrozenWeights& weights, size_t positions)
    : positions_(positions),
      pairs_(weights.shape().head_dim / 2),
      cosine_(AllocateFloats(positions * pairs_)),
      sine_(AllocateFloats(positions * pairs_)) {
  const LlamaShape& shape = weights.shape();
  for (size_t i = 0; i < pairs_; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim);
    const double frequency = std::pow(static_cast<double>(shape.rope_theta), exponent) /
                             static_cast<double>(weights.rope_factors()[i]);
    for (size_t position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cosine_[position * pairs_ + i] = static_cast<float>(std::cos(angle));
      sine_[position * pairs_ + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace nudge
