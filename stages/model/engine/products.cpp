#include "stages/model/engine/products.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "stages/model/engine/product_kernels.h"
#include "stages/model/trainer/gemm.h"
#include "stages/result.h"

namespace nudge {

namespace {

constexpr size_t kLineBytes = 64;
constexpr size_t kQ4BlockBytes = 4 + kBlockNumbers / 2;  // of a GGUF: d, m, 16 bytes of numbers
constexpr size_t kQ8BlockBytes = 2 + kBlockNumbers;      // d, 32 bytes

// Products of one row take as long as of this many more: what it costs to get at the weights.
constexpr size_t kWeightRows = 3;
// Numbers of W times rows that a part is worth: some ten microseconds.
constexpr size_t kPartWork = size_t{1} << 20;

constexpr size_t RoundUp(size_t n, size_t step) {
  return (n + step - 1) / step * step;
}

uint16_t HalfAt(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, sizeof half);
  return half;
}

void Put(uint8_t* to, uint32_t word) {
  std::memcpy(to, &word, sizeof word);
}

// The word of these fields, see product_kernels.h: number i lies at bit low or high of the word
// rotated left by `turn` for each two.
template <size_t kCount>
uint32_t WordOf(const std::array<uint32_t, kCount>& numbers, int low, int high, int turn) {
  uint32_t word = 0;
  for (size_t i = 0; i < kCount; ++i) {
    word |= std::rotr(numbers[i] << (i % 2 == 0 ? low : high), static_cast<int>(i / 2) * turn);
  }
  return word;
}

// As Q4_1: byte j holds number j in its lower half and number 16 + j in its upper.
uint32_t Q4Number(const uint8_t* block, size_t k) {
  const uint8_t byte = block[4 + k % 16];
  return k < 16 ? byte & 15u : byte >> 4;
}

ProductKernel KernelOf(ProductPath path) {
  switch (path) {
    case ProductPath::kPortable:
      return kPortableProducts;
    case ProductPath::kPlain:
      return kPlainProducts;
    case ProductPath::kAvx2:
      return kAvx2Products;
    case ProductPath::kAvx512:
      return kAvx512Products;
  }
  return nullptr;
}

ProductScratch ThreadScratch() {
  thread_local const AlignedFloats kMemory =
      AllocateFloats((kSumRows + kWidenedRows) * kPanelColumns);
  return {kMemory.get(), kMemory.get() + kSumRows * kPanelColumns};
}

}  // namespace

float FloatOfHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t fraction = half & 1023u;
  if (exponent == 0) {
    const float size = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -size : size;
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  return __builtin_bit_cast(float, sign | (biased << 23) | (fraction << 13));
}

size_t PackedMatrix::Floats(size_t out, size_t in, WeightForm form) {
  const UnitLayout unit = LayoutOf(form);
  const size_t bytes = in / unit.numbers * RoundUp(out, kColumnStep) * unit.column_bytes;
  return RoundUp(bytes, kLineBytes) / sizeof(float);
}

PackedMatrix::PackedMatrix(size_t out, size_t in, WeightForm form, float* memory)
    : out_(out), in_(in), form_(form), data_(reinterpret_cast<uint8_t*>(memory)) {
  ENSURE(out > 0 && CanHave(form, in));
  std::fill_n(memory, Floats(out, in, form), 0.0f);
}

bool PackedMatrix::CanHave(WeightForm form, size_t in) {
  return in > 0 && in % LayoutOf(form).numbers == 0;
}

bool PackedMatrix::HoldsQ4_1(const uint8_t* blocks, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const double d = static_cast<double>(FloatOfHalf(HalfAt(blocks + i * kQ4BlockBytes)));
    const double m = static_cast<double>(FloatOfHalf(HalfAt(blocks + i * kQ4BlockBytes + 2)));
    for (const double offset : {m - 16 * d, m - 256 * d}) {
      if (static_cast<double>(static_cast<float>(offset)) != offset) return false;
    }
  }
  return true;
}

uint8_t* PackedMatrix::UnitAt(size_t row, size_t unit, size_t* width, size_t* column) {
  ENSURE(row < out_);
  const UnitLayout layout = LayoutOf(form_);
  const size_t begin = row / kPanelColumns * kPanelColumns;
  *width = std::min(RoundUp(out_ - begin, kColumnStep), kPanelColumns);
  *column = row - begin;
  return data_ + (in_ / layout.numbers * begin + unit * *width) * layout.column_bytes;
}

void PackedMatrix::WriteFloats(size_t row, std::span<const float> values) {
  ENSURE(form_ == WeightForm::kFloats && values.size() == in_);
  size_t width, column;
  float* const to = reinterpret_cast<float*>(UnitAt(row, 0, &width, &column)) + column;
  for (size_t k = 0; k < in_; ++k) to[k * width] = values[k];
}

void PackedMatrix::WriteStored(size_t row, const uint8_t* stored) {
  const size_t units = in_ / LayoutOf(form_).numbers;
  for (size_t u = 0; u < units; ++u) {
    size_t width, column;
    uint8_t* const unit = UnitAt(row, u, &width, &column);
    switch (form_) {
      case WeightForm::kFloats:
        ENSURE(false);
        break;
      case WeightForm::kBf16: {
        const uint32_t first = HalfAt(stored + 4 * u);
        Put(unit + 4 * column, first << 16 | HalfAt(stored + 4 * u + 2));
        break;
      }
      case WeightForm::kQ4_1: {
        const uint8_t* const block = stored + u * kQ4BlockBytes;
        std::memcpy(unit + 2 * column, block, 2);
        std::memcpy(unit + 2 * (width + column), block + 2, 2);
        for (size_t g = 0; g < kBlockNumbers / kQ4Fields; ++g) {
          std::array<uint32_t, kQ4Fields> numbers;
          for (size_t i = 0; i < kQ4Fields; ++i) numbers[i] = Q4Number(block, kQ4Fields * g + i);
          Put(unit + 4 * width * (1 + g) + 4 * column, WordOf(numbers, 15, 19, 8));
        }
        break;
      }
      case WeightForm::kQ8_0: {
        const uint8_t* const block = stored + u * kQ8BlockBytes;
        std::memcpy(unit + 2 * column, block, 2);
        for (size_t g = 0; g < kBlockNumbers / kQ8Fields; ++g) {
          std::array<uint32_t, kQ8Fields> numbers;
          for (size_t i = 0; i < kQ8Fields; ++i) {
            numbers[i] =
                static_cast<uint32_t>(static_cast<int8_t>(block[2 + kQ8Fields * g + i]) + 128);
          }
          Put(unit + 2 * width + 4 * (g * width + column), WordOf(numbers, 7, 15, 16));
        }
        break;
      }
    }
  }
}

Panels PanelsOf(const PackedMatrix& matrix) {
  return {matrix.form(), matrix.out(), matrix.in(), matrix.data()};
}

std::string_view Name(ProductPath path) {
  constexpr std::string_view kNames[] = {"portable", "plain", "avx2", "avx512"};
  return kNames[static_cast<size_t>(path)];
}

bool HasPath(ProductPath path) {
  if (KernelOf(path) == nullptr) return false;
#ifdef __x86_64__
  if (path == ProductPath::kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  }
  if (path == ProductPath::kAvx2) {
    // F16C is older than AVX2, and wherever that is.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
#endif
  return path == ProductPath::kPortable || path == ProductPath::kPlain;
}

ProductPath FastestPath() {
  static const ProductPath kPath = [] {
    ProductPath fastest = ProductPath::kPortable;
    for (const ProductPath path : kProductPaths) {
      if (HasPath(path)) fastest = path;
    }
    return fastest;
  }();
  return kPath;
}

void MultiplyPanels(const Panels& w, size_t first, size_t count, const ProductRows& rows,
                    ProductPath path) {
  KernelOf(path)(w, first, count, rows, ThreadScratch());
}

ProductParts::ProductParts(const Panels& w, size_t rows)
    : panels_(w.count()),
      parts_(std::clamp<size_t>(w.out * w.in * (rows + kWeightRows) / kPartWork, 1, panels_)) {}

void Multiply(const Panels& w, const ProductRows& rows, const ParallelFor& parallel) {
  const ProductParts parts(w, rows.rows);
  RunParts(parallel, parts.size(),
           [&](size_t part) { MultiplyPanels(w, parts.First(part), parts.Count(part), rows); });
}

}  // namespace nudge
