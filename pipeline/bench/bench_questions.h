// Questions to the executor until their outcomes, answered by nudge's engine and by llama.cpp with
// the same file: a table of `nudge bench answers`.
//
// Main thread only.
#pragma once

#include "pipeline/config/config.h"

namespace nudge {

// With so many threads of the executor. Ends early on a stop. Throws StartError.
void BenchQuestions(const Config& config, int threads);

}  // namespace nudge
