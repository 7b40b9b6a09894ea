#include "stages/model/trainer/gemm.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_THREAD__) || defined(NUDGE_ONE_PATH)
#define NUDGE_CLONES  // what chooses a clone runs before the sanitizer is there, and calls it
#else
#define NUDGE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

namespace nudge {

namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kAlignment = 64;
constexpr size_t kTileRows = 256;
constexpr size_t kTileColumns = 384;
constexpr size_t kColumnStep = 48;  // columns of oneDNN's AVX-512 register block

size_t CeilDivide(size_t a, size_t b) {
  return (a + b - 1) / b;
}

}  // namespace

std::string_view Name(BaseProducts products) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "portable"};
  return kNames[static_cast<size_t>(products)];
}

void MultiplyReference(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                       float alpha, const float* a, size_t a_stride, const float* b,
                       size_t b_stride, float beta, float* c, size_t c_stride) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t p = 0; p < k; ++p) {
        const float x = transpose_a == Transpose::kYes ? a[p * a_stride + i] : a[i * a_stride + p];
        const float y = transpose_b == Transpose::kYes ? b[j * b_stride + p] : b[p * b_stride + j];
        sum += static_cast<double>(x) * static_cast<double>(y);
      }
      const double before = beta == 0 ? 0 : static_cast<double>(beta * c[i * c_stride + j]);
      c[i * c_stride + j] = static_cast<float>(static_cast<double>(alpha) * sum + before);
    }
  }
}

NUDGE_CLONES
void ToBf16(const float* from, size_t count, uint16_t* to) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, from[i]);
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    const uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
    to[i] = static_cast<uint16_t>((is_nan ? bits | 0x400000u : rounded) >> 16);
  }
}

void FromBf16(const uint16_t* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i) to[i] = __builtin_bit_cast(float, uint32_t{from[i]} << 16);
}

void FreeAligned::operator()(void* values) const {
  std::free(values);
}

void ThrowBadAlloc() {
  if (const std::new_handler handler = std::get_new_handler()) handler();
  throw std::bad_alloc();
}

void* AllocateAligned(size_t bytes) {
  void* memory = std::aligned_alloc(
      kAlignment, CeilDivide(std::max<size_t>(bytes, 1), kAlignment) * kAlignment);
  if (memory == nullptr) ThrowBadAlloc();
  return memory;
}

AlignedFloats AllocateFloats(size_t count) {
  return AlignedFloats(static_cast<float*>(AllocateAligned(count * sizeof(float))));
}

AlignedBf16 AllocateBf16(size_t count) {
  return AlignedBf16(static_cast<uint16_t*>(AllocateAligned(count * sizeof(uint16_t))));
}

AlignedFloats AllocateStreamedFloats(size_t count) {
  const size_t bytes =
      CeilDivide(std::max<size_t>(count * sizeof(float), 1), kLargePage) * kLargePage;
  void* const memory = std::aligned_alloc(kLargePage, bytes);
  if (memory == nullptr) ThrowBadAlloc();
#ifdef MADV_HUGEPAGE
  (void)::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it the same, slower
#endif
  return AlignedFloats(static_cast<float*>(memory));
}

Tiles::Tiles(size_t rows, size_t columns)
    : rows_(rows),
      columns_(columns),
      row_blocks_(CeilDivide(rows, kTileRows)),
      panels_(4 * CeilDivide(columns, 4 * kTileColumns)),
      panel_width_(CeilDivide(CeilDivide(columns, panels_), kColumnStep) * kColumnStep) {
  panels_ = CeilDivide(columns, panel_width_);
}

Tiles::Tile Tiles::operator[](size_t index) const {
  const size_t row = index % row_blocks_ * kTileRows;
  const size_t column = index / row_blocks_ * panel_width_;
  return {row, std::min(kTileRows, rows_ - row), column, std::min(panel_width_, columns_ - column)};
}

}  // namespace nudge
