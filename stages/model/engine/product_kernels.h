// What products.cpp hands to the file of an instruction path, and where a form's numbers lie.
// For stages/model/engine alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stages/model/engine/products.h"

namespace nudge {

// A form's numbers come in units of some consecutive k, one unit of all of a panel's columns after
// the other. Where several numbers share a 32-bit word, number i of the word is the field that
// begins at bit kFieldBits[i % 2] of the word rotated left by its Rotation: there, an exponent put
// above it makes a float of it, 2^e + q, without a conversion.
//
//   kFloats  1 k:   float[width]
//   kBf16    2 k:   word[width], the first k in the upper half
//   kQ4_1   32 k:   d f16[width], m f16[width], word[4][width] of 8 numbers q each, at bits 15
//                   and 19, rotated by 8
//   kQ8_0   32 k:   d f16[width], word[8][width] of 4 numbers q + 128 each, at bits 7 and 15,
//                   rotated by 16
inline constexpr size_t kBlockNumbers = 32;
inline constexpr size_t kQ4Fields = 8;
inline constexpr size_t kQ8Fields = 4;

struct UnitLayout {
  size_t numbers;       // k of a unit
  size_t column_bytes;  // of a unit, a column
};
constexpr UnitLayout LayoutOf(WeightForm form) {
  switch (form) {
    case WeightForm::kFloats:
      return {1, 4};
    case WeightForm::kBf16:
      return {2, 4};
    case WeightForm::kQ4_1:
      return {kBlockNumbers, 4 + kBlockNumbers / 2};
    case WeightForm::kQ8_0:
      return {kBlockNumbers, 2 + kBlockNumbers};
  }
  return {1, 4};
}

// The f32 of an IEEE half.
float FloatOfHalf(uint16_t half);

// Memory that a call works in, of the calling thread.
inline constexpr size_t kSumRows = 264;  // whole tiles of every path
inline constexpr size_t kWidenedRows =
    128;  // k; a multiple of every unit: what a first cache holds
struct ProductScratch {
  float* sums;     // [kSumRows, kPanelColumns]
  float* widened;  // [kWidenedRows, kPanelColumns]
};

// Multiplies the columns of panels [first, first + count). Null where this build has no such path.
using ProductKernel = void (*)(const Panels& w, size_t first, size_t count, const ProductRows& rows,
                               const ProductScratch& scratch);
extern const ProductKernel kAvx512Products;
extern const ProductKernel kAvx2Products;
extern const ProductKernel kPlainProducts;
extern const ProductKernel kPortableProducts;

}  // namespace nudge
