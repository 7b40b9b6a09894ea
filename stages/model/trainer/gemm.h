// Matrix products, row-major, over oneDNN, on the calling thread alone.
//
// `Multiply` (f32) is used for every product of the trainer: measured on AVX-512, oneDNN's sgemm
// reaches 110-180 GFLOP/s a thread both on the frozen weights read in place and on the small
// products of LoRA and attention, as much as its prepacked primitives. `MultiplyBf16` is for frozen
// weights on processors with AMX, where it is three to five times as fast as f32.
// Any thread may call; a call never starts a thread. Bits depend on the sizes of the call alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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

// C[m, n] = A[m, k] op(B)[k, n] (+ C, with `accumulate`) of bf16 numbers, summed in f32. The sizes
// of a call are prepared once (half a millisecond) and remembered. Requires HasBf16Products().
void MultiplyBf16(Transpose transpose_b, size_t m, size_t n, size_t k, const uint16_t* a,
                  size_t a_stride, const uint16_t* b, size_t b_stride, bool accumulate, float* c,
                  size_t c_stride);

// The nearest bf16 number of each, even on a tie; what is not finite stays so.
void ToBf16(const float* from, size_t count, uint16_t* to);
void FromBf16(const uint16_t* from, size_t count, float* to);

// Whether this processor has bf16 products at all (AVX-512), and whether they are the fast ones
// (AMX). Asked of the processor, not of a clock: the same machine always says the same.
bool HasBf16Products();
bool Bf16IsFaster();

// The library's version, the instructions that it uses here, and " bf16" where the frozen products
// are: bits repeat where this is equal.
std::string GemmPath(bool bf16 = false);

// Numbers on a 64-byte boundary, not initialised: pages that are never written take no memory.
struct FreeAligned {
  void operator()(void* values) const;
};
void* AllocateAligned(size_t bytes);  // as operator new where there is no memory
[[noreturn]] void ThrowBadAlloc();    // after the new handler, if one is installed

using AlignedFloats = std::unique_ptr<float[], FreeAligned>;
using AlignedBf16 = std::unique_ptr<uint16_t[], FreeAligned>;
AlignedFloats AllocateFloats(size_t count);
AlignedBf16 AllocateBf16(size_t count);
// On pages of two megabytes where the system has them: of what is read from end to end for every
// token, so that neither translating addresses nor a page's end stops the processor's prefetching.
AlignedFloats AllocateStreamedFloats(size_t count);

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

}  // namespace nudge
