// How passages are kept and found: see index.h.
#pragma once

#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct IndexOptions {
  std::string embedder;       // its identity; empty: none, search is lexical only
  uint32_t dimension = 0;     // of its vectors; 0 exactly if there is none
  uint32_t passages = 3;      // 1..64: found by a query at most
  uint32_t candidates = 100;  // passages..10000: best of each list that take part in the sum
  double dense_weight = .5;   // 0..1: of the dense list in the sum, the lexical one has the rest
  double bm25_k1 = 1.2;       // 0..10
  double bm25_b = .75;        // 0..1
  uint32_t documents_per_tenant = 10000;
  uint32_t chunks_per_tenant = 100000;
  uint32_t tombstones_per_tenant = 10000;  // version counters of deleted documents that are kept
};

keys::Fields OptionsOf(IndexOptions& options);

}  // namespace nudge
