// Matrix products in f32, row-major, over oneDNN, on the calling thread alone.
//
// `Multiply` is used for every product of the trainer: measured on AVX-512, oneDNN's sgemm reaches
// 110-180 GFLOP/s a thread both on the frozen weights read in place and on the small products of
// LoRA and attention, as much as its prepacked primitives. So a frozen weight is kept once, as it
// is, for the product with W and for the product with its transpose.
// Any thread may call; a call never starts a thread. Bits depend on the sizes of the call alone.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace nudge {

enum class Transpose : bool { kNo, kYes };

// C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C. The strides are those of the matrices as
// stored; with beta 0, C is not read.
void Multiply(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
              float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
              float beta, float* c, size_t c_stride);

// The same by three plain loops in double precision: what Multiply is tested against.
void MultiplyReference(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                       float alpha, const float* a, size_t a_stride, const float* b,
                       size_t b_stride, float beta, float* c, size_t c_stride);

// The library's version and the instructions that it uses here: bits repeat where this is equal.
std::string GemmPath();

// Floats on a 64-byte boundary, not initialised: pages that are never written take no memory.
struct FreeAligned {
  void operator()(float* values) const;
};
using AlignedFloats = std::unique_ptr<float[], FreeAligned>;
AlignedFloats AllocateFloats(size_t count);

// How a product of `rows` x `columns` is cut into parts. The cut depends on the sizes alone.
class Tiles {
 public:
  struct Tile {
    size_t row, rows, column, columns;
  };

  Tiles(size_t rows, size_t columns);
  size_t size() const { return row_blocks_ * panels_; }
  Tile operator[](size_t index) const;

 private:
  size_t rows_, columns_, row_blocks_, panels_, panel_width_;
};

// A weight of the base model, W[out, in]. Written once at load, then shared and never changed.
class FrozenMatrix {
 public:
  FrozenMatrix() = default;
  FrozenMatrix(size_t out, size_t in);

  size_t out() const { return out_; }
  size_t in() const { return in_; }
  std::span<float> values() { return {values_.get(), out_ * in_}; }  // [out, in]
  std::span<const float> values() const { return {values_.get(), out_ * in_}; }

  // One tile of Y[rows, out] = X[rows, in] W^T (+ Y, with `accumulate`).
  void Forward(const Tiles::Tile& tile, const float* x, size_t x_stride, bool accumulate, float* y,
               size_t y_stride) const;

  // One tile of dX[rows, in] = dY[rows, out] W.
  void Backward(const Tiles::Tile& tile, const float* dy, size_t dy_stride, float* dx,
                size_t dx_stride) const;

 private:
  size_t out_ = 0;
  size_t in_ = 0;
  AlignedFloats values_;
};

}  // namespace nudge
