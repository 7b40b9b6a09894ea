// Products of few columns and rows: what is left of one that is cut to a smaller rank, and how far
// two are from each other.
//
// M = B A -> [CutToRank] -> B' A' of a smaller rank. M is never held, but for some rows of it.
// Pure functions, any thread; a call starts none.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace nudge {

// B A, row-major.
struct LowRankProduct {
  size_t out = 0;
  size_t in = 0;
  size_t rank = 0;
  std::vector<float> b;  // [out, rank]
  std::vector<float> a;  // [rank, in]
};

// The product of at most `rank` (1 or more) that is nearest to this one by the Frobenius norm, as a
// singular value decomposition has it: columns of B and rows of A in the order of what they add,
// columns orthogonal, rows too, and each column as long as its row. Fewer than `rank` where the
// product has fewer. Of what can be kept of the square of the norm no more than some 1e-5 is
// missed. Equal arguments give equal bits on every processor. Values of B must be below 1e16, of A
// below 1e5.
LowRankProduct CutToRank(const LowRankProduct& product, size_t rank);

// Squares of Frobenius norms. The last bits depend on the processor.
struct Distances {
  double norm = 0;                // of the product
  std::vector<double> distances;  // between it and each of the others
};

// All of one shape.
Distances DistancesFrom(const LowRankProduct& product, std::span<const LowRankProduct> others);

}  // namespace nudge
