#include "stages/model/trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "stages/model/trainer/functions.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/part_times.h"

namespace nudge {

AdamW::AdamW(size_t size) : first_(size), second_(size) {}

void AdamW::Restore(uint64_t steps, std::vector<float> first, std::vector<float> second) {
  ENSURE(first.size() == first_.size() && second.size() == second_.size());
  steps_ = steps;
  first_ = std::move(first);
  second_ = std::move(second);
}

Result<Nothing> AdamW::Step(const AdamWOptions& options, std::span<const float> gradient,
                            std::span<float> values, const ParallelFor& parallel, double strength) {
  ENSURE(gradient.size() == first_.size() && values.size() == first_.size());
  const double norm = std::sqrt(SumOfSquares(gradient.data(), gradient.size()));
  if (!std::isfinite(norm)) {
    return Error{Code::kModelFailed, "the gradient is not finite", "skip this step"};
  }
  ++steps_;
  const auto step = static_cast<double>(steps_);
  AdamWUpdate update;
  update.clip = static_cast<float>(norm > options.clip_norm ? options.clip_norm / norm : 1.0);
  update.beta1 = static_cast<float>(options.beta1);
  update.beta2 = static_cast<float>(options.beta2);
  const double warmth = step < options.warmup_steps ? step / options.warmup_steps : 1;
  update.rate = static_cast<float>(strength * warmth * options.learning_rate /
                                   (1 - Power(options.beta1, step)));
  update.second_scale = static_cast<float>(1 / std::sqrt(1 - Power(options.beta2, step)));
  update.epsilon = static_cast<float>(options.epsilon);
  update.keep = static_cast<float>(1 - options.learning_rate * options.weight_decay);
  constexpr size_t kBlock = 1 << 16;
  RunParts(parallel, (values.size() + kBlock - 1) / kBlock, [&](size_t part) {
    const PartTimer timer(StepPart::kOptimizer);
    const size_t begin = part * kBlock;
    UpdateAdamW(update, gradient.data() + begin, std::min(kBlock, values.size() - begin),
                first_.data() + begin, second_.data() + begin, values.data() + begin);
  });
  return Nothing{};
}

}  // namespace nudge
