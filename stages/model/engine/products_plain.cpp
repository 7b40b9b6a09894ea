// Products without vector instructions: what every processor has.
#include <bit>
#include <cmath>
#include <cstring>

#include "stages/model/engine/product_tiles.h"

namespace nudge {
namespace {

// std::fma, which takes ten times as long where the processor has no such instruction. The product
// of two floats is exact as a double. Their sum with c is rounded to a double and then to a float:
// that is as good as once, but for a double that lies just between two floats, and below the normal
// floats, which have fewer bits.
NUDGE_INLINE float FusedMultiplyAdd(float a, float b, float c) {
  const double sum = static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c);
  const auto bits = __builtin_bit_cast(uint64_t, sum);
  const bool is_between = (bits & 0x1FFFFFFFu) == 0x10000000u;
  const bool is_small = (bits << 1) - 1 < (uint64_t{1023 - 126} << 53) - 1;  // and is not 0
  if (is_between || is_small) [[unlikely]]
    return std::fma(a, b, c);
  return static_cast<float>(sum);
}

struct Plain {
  struct Floats {
    float lane[4];
  };
  struct Words {
    uint32_t lane[4];
  };
  static constexpr size_t kLanes = 4;
  static constexpr size_t kVectors = 2;
  static constexpr size_t kTileRows = 4;

  template <class To, class Make>
  static NUDGE_INLINE To Each(Make&& make) {
    To v;
    Unroll<kLanes>([&](auto i) NUDGE_INLINE_LAMBDA { v.lane[i] = make(i); });
    return v;
  }
  static NUDGE_INLINE Floats Load(const float* from) {
    return Each<Floats>([&](size_t i) NUDGE_INLINE_LAMBDA { return from[i]; });
  }
  static NUDGE_INLINE void Store(const Floats& v, float* to) {
    Unroll<kLanes>([&](auto i) NUDGE_INLINE_LAMBDA { to[i] = v.lane[i]; });
  }
  static NUDGE_INLINE Floats Broadcast(float x) {
    return Each<Floats>([&](size_t) NUDGE_INLINE_LAMBDA { return x; });
  }
  static NUDGE_INLINE Floats Multiply(const Floats& a, const Floats& b) {
    return Each<Floats>([&](size_t i) NUDGE_INLINE_LAMBDA { return a.lane[i] * b.lane[i]; });
  }
  static NUDGE_INLINE Floats Fma(const Floats& a, const Floats& b, const Floats& c) {
    return Each<Floats>([&](size_t i) NUDGE_INLINE_LAMBDA {
      return FusedMultiplyAdd(a.lane[i], b.lane[i], c.lane[i]);
    });
  }
  static NUDGE_INLINE Floats LoadHalves(const uint8_t* from) {
    return Each<Floats>([&](size_t i) NUDGE_INLINE_LAMBDA {
      uint16_t half;
      std::memcpy(&half, from + 2 * i, sizeof half);
      return FloatOfHalf(half);
    });
  }
  static NUDGE_INLINE Words LoadWords(const uint8_t* from) {
    Words words;
    std::memcpy(&words, from, sizeof words);
    return words;
  }
  template <int kBits>
  static NUDGE_INLINE Words RotateLeft(const Words& words) {
    return Each<Words>([&](size_t i)
                           NUDGE_INLINE_LAMBDA { return std::rotl(words.lane[i], kBits); });
  }
  template <int kMask, int kExponent>
  static NUDGE_INLINE Floats Field(const Words& words) {
    return Each<Floats>([&](size_t i) NUDGE_INLINE_LAMBDA {
      return __builtin_bit_cast(
          float, (words.lane[i] & static_cast<uint32_t>(kMask)) | static_cast<uint32_t>(kExponent));
    });
  }
  static NUDGE_INLINE Floats UpperHalf(const Words& words) { return Field<-65536, 0>(words); }
  static NUDGE_INLINE Floats LowerHalf(const Words& words) {
    return UpperHalf(RotateLeft<16>(words));
  }
};

}  // namespace

const ProductKernel kPlainProducts = MultiplyWith<Plain>;

}  // namespace nudge
