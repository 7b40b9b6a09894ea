#include "stages/model/learn/quorum.h"

#include <algorithm>

namespace nudge {

Result<size_t> CountAgreeing(const LoraWeights& weights, const TrainSequence& lesson,
                             std::span<const TrainSequence* const> others, size_t enough,
                             Trainer& trainer, const ParallelFor& parallel) {
  const auto loss_of = [&](const LoraWeights& at, const TrainSequence& sequence) -> Result<double> {
    TrainSequence alone = sequence;
    alone.weight = 1;
    auto losses = trainer.Losses(at, {&alone, 1}, parallel);
    if (!losses) return losses.error();
    return losses->sequences[0].loss;
  };
  TrainSequence alone = lesson;
  alone.weight = 1;
  const std::span<float> gradient = trainer.GradientScratch(weights.values.size());
  auto losses = trainer.Gradients(weights, {&alone, 1}, parallel, gradient);
  if (!losses) return losses.error();
  const double steepness = losses->gradient_norm;  // nats per token and unit of length
  if (steepness == 0) return size_t{0};
  const double before = losses->sequences[0].loss;
  const double length = std::min(kTrialNats, before / 2) / (steepness * steepness);
  LoraWeights trial = weights;
  for (size_t i = 0; i < trial.values.size(); ++i) {
    trial.values[i] = static_cast<float>(trial.values[i] - length * gradient[i]);
  }
  auto behind = loss_of(trial, lesson);
  if (!behind) return behind.error();
  const double own_gain = before - *behind;
  if (own_gain <= 0) return size_t{0};
  size_t agreeing = 0;
  for (const TrainSequence* other : others) {
    if (agreeing >= enough) break;
    auto as_it_is = loss_of(weights, *other);
    if (!as_it_is) return as_it_is.error();
    auto after = loss_of(trial, *other);
    if (!after) return after.error();
    if (*as_it_is - *after >= kAgreeingShare * own_gain) ++agreeing;
  }
  return agreeing;
}

}  // namespace nudge
