// A sequence in a learner's saved state: TrainSequence <-> bytes. What can be computed again is
// left out. Any thread.
#pragma once

#include <optional>

#include "stages/model/trainer/trainer.h"
#include "stages/state.h"

namespace nudge {

void WriteSequence(const std::optional<TrainSequence>& sequence, ByteWriter& out);
std::optional<TrainSequence> ReadSequence(Objective objective, ByteReader& in);

}  // namespace nudge
