// Exact inner products of one query with many rows: the hot loop of the dense search.
//
// Pure, any thread. The widest instruction path that the machine has is chosen at run time. Bits
// differ between paths; on one path a row's product depends on query and row alone, never on where
// the row lies or how many there are, so that results survive a new order of rows.
#pragma once

#include <cstddef>
#include <string_view>

namespace nudge {

// out[i] = sum over j of query[j] * rows[i * dimension + j], for i < count.
// query: [dimension], rows: [count][dimension], out: [count]; any alignment (64 bytes is fastest).
// Bound by reading the rows once: 4 * count * dimension bytes.
void DotProducts(const float* query, const float* rows, size_t count, size_t dimension, float* out);

// "avx512", "avx2" or "scalar": the path that DotProducts takes. Part of the compute fingerprint.
std::string_view DenseScanPath();

// Takes another path, for the whole process: false, and nothing changed, where the machine lacks
// it. For tests, and for runs that must repeat the bits of a smaller machine.
bool UseDenseScanPath(std::string_view path);

}  // namespace nudge
