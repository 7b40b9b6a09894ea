// Matrix products, row-major, on the calling thread alone.
//
// `Multiply` (f32, oneDNN) is used for every product of the trainer: measured on AVX-512, oneDNN's
// sgemm reaches 110-180 GFLOP/s a thread both on the frozen weights read in place and on the small
// products of LoRA and attention, as much as its prepacked primitives. `MultiplyBf16` is for frozen
// weights on processors that multiply bf16: twice as fast as f32 with AVX512-BF16, three to five
// times with AMX.
// `MultiplyPortable` is our own, for bits that are the same on every machine: some 40 GFLOP/s a
// thread. Any thread may call; a call never starts a thread. Bits depend on the sizes of the call
// alone, and on the machine but for MultiplyPortable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace nudge {

enum class Transpose : bool { kNo, kYes };

// How a step's products are computed.
enum class BaseProducts : uint8_t {
  kF32,       // Multiply
  kBf16,      // MultiplyBf16 with frozen weights, Multiply elsewhere; requires HasBf16Products()
  kPortable,  // MultiplyPortable
};

// C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C. The strides are those of the matrices as
// stored; with beta 0, C is not read.
void Multiply(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
              float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
              float beta, float* c, size_t c_stride);

// The same with one accumulator for each number of C, which adds up blocks of kPortableDepth
// products in the order of k, products and sums rounded apart: a number's bits depend on its row of
// op(A), its column of op(B), alpha and beta alone, on every processor and in a browser.
inline constexpr size_t kPortableDepth = 256;
void MultiplyPortable(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                      float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
                      float beta, float* c, size_t c_stride);

std::string_view Name(BaseProducts products);  // "f32", "bf16", "portable"

// The f32 products of a step.
using MultiplyFunction = decltype(&MultiplyPortable);
MultiplyFunction MultiplyOf(BaseProducts products);

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
// (AVX512-BF16, AMX). Asked of the processor, not of a clock: the same machine always says the
// same.
bool HasBf16Products();
bool Bf16IsFaster();

// What decides a step's bits: oneDNN's version, the instructions that it uses here, " bf16" where
// the frozen products are, and the edition of functions.h; or "portable" and an edition.
std::string GemmPath(BaseProducts products = BaseProducts::kF32);
std::string PortablePath();

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
