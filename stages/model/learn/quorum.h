// Who else teaches what a lesson teaches: a lesson, what others taught -> [CountAgreeing] ->
// people.
//
// Two people agree where learning what one says makes what the other says likelier, too. So a trial
// is made of the lesson alone: along its gradient, as far as would make its own text likelier by
// kTrialNats, or by half of what is left, if the loss were straight (the first-order view of
// influence, Pruthi et al. 2020, taken as a real step because the loss is not). Somebody agrees if
// behind the trial their text has gained at least kShare of what the lesson's own has. What is said
// to everybody alike gains by itself; a house style that two people want gains for both; opposite
// wishes lose.
//
// Stateless; weights are not changed. Any thread that may use the trainer.
#pragma once

#include <cstddef>
#include <span>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/trainer.h"
#include "stages/result.h"

namespace nudge {

inline constexpr double kTrialNats = 0.5;       // per token
inline constexpr double kAgreeingShare = 0.25;  // of the lesson's own gain
inline constexpr size_t kAskedMost = 8;         // others that are asked

// How many of `others`, one sequence of each person, agree with `lesson`; it stops counting at
// `enough`. Objectives and weights of the sequences are as for Trainer::Gradients. 0 where the
// trial does not make the lesson itself likelier. Errors as Trainer::Gradients.
Result<size_t> CountAgreeing(const LoraWeights& weights, const TrainSequence& lesson,
                             std::span<const TrainSequence* const> others, size_t enough,
                             Trainer& trainer, const ParallelFor& parallel);

}  // namespace nudge
