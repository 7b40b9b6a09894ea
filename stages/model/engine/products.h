// Products with the frozen weights that answer: X[rows, in], W[out, in] -> [Multiply] -> X W^T.
//
// A row's bits depend on that row and on W alone: every number of Y is one f32 accumulator that
// takes w x, k ascending from 0. So a row has the same bits alone or among others, at its place in
// a prompt or token by token, at any number of threads, and in every form that W has in memory.
// (Libraries choose their kernels by the number of rows and keep several sums an output: their bits
// depend on the batch.)
//
// w x is taken by a fused multiply-add, and the bits are those of every instruction path that does.
// Portable products are for machines without one, a browser's: products and sums are rounded apart,
// and the bits are others, the same wherever they are compiled.
//
// Matrices are written once by one thread, and never changed afterwards; any thread may multiply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "stages/model/trainer/parallel.h"

namespace nudge {

// How W lies in memory. Each number is exactly what ggml's dequantiser gives for the file's.
enum class WeightForm : uint8_t {
  kFloats,
  kBf16,  // 2 bytes; `in` is even
  kQ4_1,  // 5 bits: blocks of 32 with a scale and an offset, w = q d + m; 32 divides `in`
  kQ8_0,  // 8.5 bits: blocks of 32 with a scale, w = q d; 32 divides `in`
};

// W, cut into panels of kPanelColumns outputs in which the outputs of one k lie side by side, as
// the kernels read them. A last panel is narrower.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // All zeros, in `memory` of Floats(out, in, form) on a cache line's boundary, which outlives the
  // matrix. Requires an `in` that the form can have.
  PackedMatrix(size_t out, size_t in, WeightForm form, float* memory);
  static size_t Floats(size_t out, size_t in, WeightForm form);  // a multiple of a cache line's

  // Whether rows of `in` numbers can have this form.
  static bool CanHave(WeightForm form, size_t in);
  // Whether every number of these Q4_1 blocks comes out exactly: a kernel takes 16 d and 256 d off
  // m, which f32 holds unless m is thousands of times smaller or larger than d.
  static bool HoldsQ4_1(const uint8_t* blocks, size_t count);

  void WriteFloats(size_t row, std::span<const float> values);  // [in], of kFloats
  void WriteStored(size_t row, const uint8_t* stored);          // as a GGUF has it, of the others

  size_t out() const { return out_; }
  size_t in() const { return in_; }
  WeightForm form() const { return form_; }
  const uint8_t* data() const { return data_; }

 private:
  uint8_t* UnitAt(size_t row, size_t unit, size_t* width, size_t* column);

  size_t out_ = 0;
  size_t in_ = 0;
  WeightForm form_ = WeightForm::kFloats;
  uint8_t* data_ = nullptr;
};

inline constexpr size_t kPanelColumns = 64;
inline constexpr size_t kColumnStep = 16;  // of a last panel's width

// Panels of any origin: those of a matrix, or keys and values in a page of the cache.
struct Panels {
  WeightForm form = WeightForm::kFloats;
  size_t out = 0;  // columns of Y
  size_t in = 0;
  const uint8_t* data = nullptr;

  size_t count() const { return (out + kPanelColumns - 1) / kPanelColumns; }
};
Panels PanelsOf(const PackedMatrix& matrix);

// What is at y before, and becomes of it.
enum class ProductMode : uint8_t {
  kSet,       // Y = X W^T; y is not read
  kAdd,       // Y = Y + X W^T, added at the end
  kContinue,  // the sums begin at y, so that W may come in pieces along k: the bits of one product
};

struct ProductRows {
  size_t rows = 0;
  const float* x = nullptr;  // [rows, in]
  size_t x_stride = 0;       // floats
  float* y = nullptr;        // [rows, out]
  size_t y_stride = 0;
  ProductMode mode = ProductMode::kSet;
};

// The instruction paths. Those by fused multiply-adds give the same bits.
enum class ProductPath : uint8_t { kPortable, kPlain, kAvx2, kAvx512 };
inline constexpr ProductPath kProductPaths[] = {ProductPath::kPortable, ProductPath::kPlain,
                                                ProductPath::kAvx2, ProductPath::kAvx512};
std::string_view Name(ProductPath path);
bool HasPath(ProductPath path);  // this processor and this build
ProductPath FastestPath();       // by fused multiply-adds; portable where the build has none

// Columns of `count` panels from `first` on, by the calling thread.
void MultiplyPanels(const Panels& w, size_t first, size_t count, const ProductRows& rows,
                    ProductPath path = FastestPath());

// A product cut into parts of about equal work: a function of its sizes alone.
class ProductParts {
 public:
  ProductParts(const Panels& w, size_t rows);
  size_t size() const { return parts_; }
  size_t First(size_t part) const { return panels_ * part / parts_; }  // panel
  size_t Count(size_t part) const { return First(part + 1) - First(part); }

 private:
  size_t panels_;
  size_t parts_;
};

void Multiply(const Panels& w, const ProductRows& rows, const ParallelFor& parallel);

}  // namespace nudge
