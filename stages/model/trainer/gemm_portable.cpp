// Blocks of 4 x 8 outputs in registers over panels of 4 rows of op(A) and 8 columns of op(B), which
// are packed so that a step along k reads 12 numbers in a row (Goto and van de Geijn 2008). Wider
// blocks need more than the sixteen registers that SSE2 and WebAssembly have.
#include <algorithm>
#include <array>
#include <cstring>

#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/part_times.h"
#include "stages/model/trainer/thread_floats.h"

namespace nudge {

namespace {

constexpr size_t kRows = 4;     // of a block
constexpr size_t kColumns = 8;  // of a block
constexpr size_t kLanes = 4;
constexpr size_t kMostRows = 256;     // packed at a time: a second-level cache's worth
constexpr size_t kMostColumns = 384;  // a multiple of kColumns, as kMostRows is of kRows

enum class Packed : uint8_t { kA, kB };

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));

Lanes Load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

void Store(const Lanes& lanes, float* to) {
  std::memcpy(to, &lanes, sizeof lanes);
}

// A matrix whose numbers lie along k in rows of their own, or side by side for each k.
struct Operand {
  const float* numbers;
  size_t stride;
  bool along_k;

  const float* At(size_t index, size_t k) const {
    return along_k ? numbers + index * stride + k : numbers + k * stride + index;
  }
};

// to[p * width + 0..3] = rows[0..3][p]
void PackFourRows(const float* rows, size_t stride, size_t k, size_t width, float* to) {
  size_t p = 0;
  for (; p + kLanes <= k; p += kLanes) {
    const Lanes a = Load(rows + p);
    const Lanes b = Load(rows + stride + p);
    const Lanes c = Load(rows + 2 * stride + p);
    const Lanes d = Load(rows + 3 * stride + p);
    const Lanes ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Lanes ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Lanes cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Lanes cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    Store(__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), to + p * width);
    Store(__builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7), to + (p + 1) * width);
    Store(__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), to + (p + 2) * width);
    Store(__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), to + (p + 3) * width);
  }
  for (; p < k; ++p) {
    for (size_t i = 0; i < kLanes; ++i) to[p * width + i] = rows[i * stride + p];
  }
}

// Panels of `width` rows or columns from `first` on, each [k, width], the last filled up with
// zeros.
void Pack(const Operand& from, size_t first, size_t count, size_t depth, size_t k, size_t width,
          float* to) {
  for (size_t begin = 0; begin < count; begin += width, to += k * width) {
    const size_t filled = std::min(width, count - begin);
    if (filled < width) std::fill_n(to, k * width, 0.0f);
    if (!from.along_k) {
      for (size_t p = 0; p < k; ++p) {
        std::copy_n(from.At(first + begin, depth + p), filled, to + p * width);
      }
      continue;
    }
    size_t i = 0;
    for (; i + kLanes <= filled; i += kLanes) {
      PackFourRows(from.At(first + begin + i, depth), from.stride, k, width, to + i);
    }
    for (; i < filled; ++i) {
      const float* const row = from.At(first + begin + i, depth);
      for (size_t p = 0; p < k; ++p) to[p * width + i] = row[p];
    }
  }
}

// sums[kRows, kColumns] of a panel of each.
void MultiplyBlock(const float* a, const float* b, size_t k, float* sums) {
  Lanes low[kRows] = {};
  Lanes high[kRows] = {};
  for (size_t p = 0; p < k; ++p, a += kRows, b += kColumns) {
    const Lanes b_low = Load(b);
    const Lanes b_high = Load(b + kLanes);
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      const Lanes row = {a[i], a[i], a[i], a[i]};
      low[i] += row * b_low;
      high[i] += row * b_high;
    }
  }
  for (size_t i = 0; i < kRows; ++i) {
    Store(low[i], sums + i * kColumns);
    Store(high[i], sums + i * kColumns + kLanes);
  }
}

// C[rows, columns] = keep C + alpha sums; with keep 0, C is not read.
struct Target {
  float* c;
  size_t stride;
  float alpha, keep;

  void Add(const float* sums, size_t row, size_t rows, size_t column, size_t columns) const {
    for (size_t i = 0; i < rows; ++i) {
      float* const to = c + (row + i) * stride + column;
      const float* const from = sums + i * kColumns;
      if (keep == 0) {
        for (size_t j = 0; j < columns; ++j) to[j] = alpha * from[j];
      } else {
        for (size_t j = 0; j < columns; ++j) to[j] = keep * to[j] + alpha * from[j];
      }
    }
  }
};

// Numbers of op(A) and op(B) that are packed, and where their products go.
struct Band {
  size_t row, rows, column, columns;
};

void MultiplyBand(const Band& band, const float* a, const float* b, size_t k,
                  const Target& target) {
  std::array<float, kRows * kColumns> sums;
  for (size_t j = 0; j < band.columns; j += kColumns) {
    for (size_t i = 0; i < band.rows; i += kRows) {
      MultiplyBlock(a + i * k, b + j * k, k, sums.data());
      target.Add(sums.data(), band.row + i, std::min(kRows, band.rows - i), band.column + j,
                 std::min(kColumns, band.columns - j));
    }
  }
}

}  // namespace

void MultiplyPortable(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                      float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
                      float beta, float* c, size_t c_stride) {
  if (m == 0 || n == 0) return;
  const PartTimer timer(StepPart::kLora);  // the outermost timer counts
  const Operand rows{a, a_stride, transpose_a == Transpose::kNo};
  const Operand columns{b, b_stride, transpose_b == Transpose::kYes};
  float* const packed_a = ThreadFloats<Packed::kA>(kMostRows * kPortableDepth);
  float* const packed_b = ThreadFloats<Packed::kB>(kMostColumns * kPortableDepth);
  for (size_t column = 0; column < n; column += kMostColumns) {
    const size_t wide = std::min(kMostColumns, n - column);
    size_t depth = 0;
    do {
      const size_t deep = std::min(kPortableDepth, k - depth);
      const Target target{c, c_stride, alpha, depth == 0 ? beta : 1.0f};
      Pack(columns, column, wide, depth, deep, kColumns, packed_b);
      for (size_t row = 0; row < m; row += kMostRows) {
        const size_t high = std::min(kMostRows, m - row);
        Pack(rows, row, high, depth, deep, kRows, packed_a);
        MultiplyBand({row, high, column, wide}, packed_a, packed_b, deep, target);
      }
      depth += deep;
    } while (depth < k);
  }
}

MultiplyFunction MultiplyOf(BaseProducts products) {
  return products == BaseProducts::kPortable ? MultiplyPortable : Multiply;
}

std::string PortablePath() {
  return "portable 1";
}

}  // namespace nudge
