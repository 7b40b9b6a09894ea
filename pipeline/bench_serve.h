// The second half of `nudge bench train`: answers and embeddings beside what bounds them, and how
// long it takes from a feedback to the answer that it changed, alone and while others ask.
#pragma once

#include <cstddef>

#include "pipeline/config.h"

namespace nudge {

// What the machine gave in the same run.
struct ServeLimits {
  double gflops_one_thread = 0;  // of f32 products
  double gflops = 0;             // with all threads
  size_t layer_weights = 0;      // numbers in the matrices of all blocks
};

// Prints; returns an exit code. Main thread. Throws StartError.
int BenchServe(const Config& config, const ServeLimits& limits);

}  // namespace nudge
