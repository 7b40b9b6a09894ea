// Part of `nudge bench train`: how fast answers and embeddings are, beside what bounds them and
// beside llama.cpp's own benchmark on the same files.
#pragma once

#include <cstddef>

#include "pipeline/bench/llama_bench.h"
#include "pipeline/config/config.h"
#include "stages/model/backend.h"
#include "stages/model/trainer/gemm.h"

namespace nudge {

// What the machine gave in the same run.
struct ServeLimits {
  BaseProducts products = BaseProducts::kF32;
  double gflops_one_thread = 0;  // of those
  double gflops = 0;             // with all threads
  size_t layer_weights = 0;      // numbers in the matrices of all blocks
};

// Prints a table. Main thread; takes the backend's slot 0. `beside` may be null: then the table
// says how to have it. Throws StartError.
void BenchRates(const Config& config, const ServeLimits& limits, Backend& backend,
                const LlamaBench* beside);

}  // namespace nudge
