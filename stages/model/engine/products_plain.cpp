// Products without vector instructions: what every processor has.
#include <bit>
#include <cmath>
#include <cstring>

#include "stages/model/engine/product_tiles.h"

namespace nudge {
namespace {

struct Plain {
  struct Floats {
    float lane[4];
  };
  struct Words {
    uint32_t lane[4];
  };
  static constexpr bool kFused = true;
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
  static NUDGE_INLINE Floats MultiplyAdd(const Floats& a, const Floats& b, const Floats& c) {
    return Each<Floats>(
        [&](size_t i) NUDGE_INLINE_LAMBDA { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
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
      return std::bit_cast<float>((words.lane[i] & static_cast<uint32_t>(kMask)) |
                                  static_cast<uint32_t>(kExponent));
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
