// From logits to a token: logits -> [SampleToken] -> id. Pure function of its arguments, any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "stages/model/serve/language_model.h"

namespace nudge {

// Draws token number `index` of a completion from `logits` [vocabulary]. Temperature 0 takes the
// greatest, ties to the lowest id; else softmax(logits / temperature) in double, cut to top_k, then
// to top_p (Holtzman et al. 2020), and inverted at UniformAt(seed, index). Nothing if a logit is
// not finite.
std::optional<int32_t> SampleToken(std::span<const float> logits, const Sampling& sampling,
                                   uint64_t index);

// -log softmax(logits)[token] in nats, in double.
double NegativeLogProbability(std::span<const float> logits, int32_t token);

}  // namespace nudge
