// Products by AVX2, FMA and F16C.
#include "stages/model/engine/product_tiles.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

namespace nudge {
namespace {

struct Avx2 {
  using Floats = __m256;
  using Words = __m256i;
  static constexpr bool kFused = true;
  static constexpr size_t kLanes = 8;
  static constexpr size_t kVectors = 2;
  static constexpr size_t kTileRows = 6;  // 12 sums, 2 weights and a number of x: 15 registers

  static NUDGE_INLINE Floats Load(const float* from) { return _mm256_loadu_ps(from); }
  static NUDGE_INLINE void Store(Floats v, float* to) { _mm256_storeu_ps(to, v); }
  static NUDGE_INLINE Floats Broadcast(float x) { return _mm256_set1_ps(x); }
  static NUDGE_INLINE Floats Multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static NUDGE_INLINE Floats MultiplyAdd(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  static NUDGE_INLINE Floats LoadHalves(const uint8_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static NUDGE_INLINE Words LoadWords(const uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  template <int kBits>
  static NUDGE_INLINE Words RotateLeft(Words words) {
    if constexpr (kBits == 0) return words;
    return _mm256_or_si256(_mm256_slli_epi32(words, kBits), _mm256_srli_epi32(words, 32 - kBits));
  }
  template <int kMask, int kExponent>
  static NUDGE_INLINE Floats Field(Words words) {
    return _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(words, _mm256_set1_epi32(kMask)),
                                               _mm256_set1_epi32(kExponent)));
  }
  static NUDGE_INLINE Floats UpperHalf(Words words) {
    return _mm256_castsi256_ps(
        _mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xFFFF0000))));
  }
  static NUDGE_INLINE Floats LowerHalf(Words words) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
  }
};

}  // namespace

const ProductKernel kAvx2Products = MultiplyWith<Avx2>;

}  // namespace nudge

#else

const nudge::ProductKernel nudge::kAvx2Products = nullptr;

#endif
