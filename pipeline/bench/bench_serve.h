// The second half of `nudge bench train`: answers and embeddings beside what bounds them, and how
// long it takes from a feedback to the answer that it changed, alone and while others ask.
#pragma once

#include "pipeline/bench/bench_rates.h"

namespace nudge {

// Prints; returns an exit code. Main thread. `lessons` of each way to measure a feedback, 0: not
// measured. `beside` may be null. Throws StartError.
int BenchServe(const Config& config, const ServeLimits& limits, int lessons,
               const LlamaBench* beside);

}  // namespace nudge
