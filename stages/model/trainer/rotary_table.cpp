#include "stages/model/trainer/rotary_table.h"

#include "stages/model/trainer/functions.h"

namespace nudge {

RotaryTable::RotaryTable(const FrozenWeights& weights, size_t positions)
    : positions_(positions),
      pairs_(weights.shape().head_dim / 2),
      cosine_(AllocateFloats(positions * pairs_)),
      sine_(AllocateFloats(positions * pairs_)) {
  const LlamaShape& shape = weights.shape();
  for (size_t i = 0; i < pairs_; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim);
    const double frequency = Power(static_cast<double>(shape.rope_theta), exponent) /
                             static_cast<double>(weights.rope_factors()[i]);
    for (size_t position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      const CosineSine turn = CosineSineOf(angle);
      cosine_[position * pairs_ + i] = static_cast<float>(turn.cosine);
      sine_[position * pairs_ + i] = static_cast<float>(turn.sine);
    }
  }
}

}  // namespace nudge
