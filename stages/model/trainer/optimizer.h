// AdamW with clipping by the global norm: (gradient, values) -> [AdamW] -> changed values.
//
// Loshchilov and Hutter 2019, with bias correction. One instance belongs to one adapter; not shared
// between threads while it steps. Deterministic: each value is updated by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stages/model/trainer/optimizer_options.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

class AdamW {
 public:
  explicit AdamW(size_t size);

  // One step down the gradient, times `strength`, 0..1: what a gradient is multiplied by makes no
  // difference to AdamW. Requires both spans to have the size given at construction.
  // Error kModelFailed if the gradient's norm is not finite: nothing has changed.
  Result<Nothing> Step(const AdamWOptions& options, std::span<const float> gradient,
                       std::span<float> values, const ParallelFor& parallel, double strength = 1);

  uint64_t steps() const { return steps_; }
  std::span<const float> first_moment() const { return first_; }    // [size]
  std::span<const float> second_moment() const { return second_; }  // [size]

  // Takes over a saved state. Requires both moments to have the size given at construction.
  void Restore(uint64_t steps, std::vector<float> first, std::vector<float> second);

 private:
  uint64_t steps_ = 0;
  std::vector<float> first_;
  std::vector<float> second_;
};

}  // namespace nudge
