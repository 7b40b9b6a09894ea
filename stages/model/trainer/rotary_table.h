// The angles of the rotary position embedding, one row a position: (model, positions) ->
// [RotaryTable] -> cosines and sines for RotatePairs and RotateHalves (Su et al. 2021).
//
// Filled once, afterwards never changed: any thread may read.
#pragma once

#include <cstddef>

#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/gemm.h"

namespace nudge {

class RotaryTable {
 public:
  // Of positions 0 .. positions - 1.
  RotaryTable(const FrozenWeights& weights, size_t positions);

  size_t positions() const { return positions_; }
  // [head_dim / 2]; rows of later positions follow.
  const float* Cosine(size_t position) const { return cosine_.get() + position * pairs_; }
  const float* Sine(size_t position) const { return sine_.get() + position * pairs_; }

 private:
  size_t positions_;
  size_t pairs_;  // head_dim / 2
  AlignedFloats cosine_;
  AlignedFloats sine_;
};

}  // namespace nudge
