// Products by AVX-512 (F and BW).
#include "stages/model/engine/product_tiles.h"

#ifdef __AVX512F__
#include <immintrin.h>

namespace nudge {
namespace {

struct Avx512 {
  using Floats = __m512;
  using Words = __m512i;
  static constexpr bool kFused = true;
  static constexpr size_t kLanes = 16;
  static constexpr size_t kVectors = 4;   // of a tile: a whole panel
  static constexpr size_t kTileRows = 6;  // 24 sums and 4 weights of 32 registers

  static NUDGE_INLINE Floats Load(const float* from) { return _mm512_loadu_ps(from); }
  static NUDGE_INLINE void Store(Floats v, float* to) { _mm512_storeu_ps(to, v); }
  static NUDGE_INLINE Floats Broadcast(float x) { return _mm512_set1_ps(x); }
  static NUDGE_INLINE Floats Multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static NUDGE_INLINE Floats MultiplyAdd(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static NUDGE_INLINE Floats LoadHalves(const uint8_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static NUDGE_INLINE Words LoadWords(const uint8_t* from) { return _mm512_loadu_si512(from); }
  template <int kBits>
  static NUDGE_INLINE Words RotateLeft(Words words) {
    if constexpr (kBits == 0) return words;
    return _mm512_rol_epi32(words, kBits);
  }
  // (words & kMask) | kExponent
  template <int kMask, int kExponent>
  static NUDGE_INLINE Floats Field(Words words) {
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(words, _mm512_set1_epi32(kMask),
                                                         _mm512_set1_epi32(kExponent), 0xEA));
  }
  static NUDGE_INLINE Floats UpperHalf(Words words) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
  }
  static NUDGE_INLINE Floats LowerHalf(Words words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
};

}  // namespace

const ProductKernel kAvx512Products = MultiplyWith<Avx512>;

}  // namespace nudge

#else

const nudge::ProductKernel nudge::kAvx512Products = nullptr;

#endif
