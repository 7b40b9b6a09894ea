// Products and sums rounded apart, four lanes at a time: what every processor has, and WebAssembly.
#include <cstring>

#include "stages/model/engine/product_tiles.h"

namespace nudge {
namespace {

struct Portable {
  typedef float Floats __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(16)));
  static constexpr bool kFused = false;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kVectors = 2;
  static constexpr size_t kTileRows = 4;  // 8 sums, 2 weights and a number of x: 16 registers

  template <class To>
  static NUDGE_INLINE To LoadAs(const void* from) {
    To v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  static NUDGE_INLINE Floats Load(const float* from) { return LoadAs<Floats>(from); }
  static NUDGE_INLINE void Store(const Floats& v, float* to) { std::memcpy(to, &v, sizeof v); }
  static NUDGE_INLINE Floats Broadcast(float x) { return Floats{x, x, x, x}; }
  static NUDGE_INLINE Floats Multiply(const Floats& a, const Floats& b) { return a * b; }
  static NUDGE_INLINE Floats Add(const Floats& a, const Floats& b) { return a + b; }
  static NUDGE_INLINE Floats MultiplyAdd(const Floats& a, const Floats& b, const Floats& c) {
    return a * b + c;
  }
  // The exponent of a half is moved to where a float has it, and 112 is added by a product, which
  // makes normal numbers of the small ones too; what is not finite has the greatest exponent.
  static NUDGE_INLINE Floats LoadHalves(const uint8_t* from) {
    typedef uint16_t Halves __attribute__((vector_size(8)));
    const Words halves = __builtin_convertvector(LoadAs<Halves>(from), Words);
    const Words size = (halves & 0x7FFFu) << 13;
    const Words scaled = AsWords(AsFloats(size) * 0x1p112f);
    const Words infinite = reinterpret_cast<Words>(size >= 0x0F800000u) & 0x7F800000u;
    return AsFloats(scaled | infinite | (halves & 0x8000u) << 16);
  }
  static NUDGE_INLINE Words LoadWords(const uint8_t* from) { return LoadAs<Words>(from); }
  template <int kBits>
  static NUDGE_INLINE Words RotateLeft(const Words& words) {
    if constexpr (kBits == 0) return words;
    return words << kBits | words >> (32 - kBits);
  }
  template <int kMask, int kExponent>
  static NUDGE_INLINE Floats Field(const Words& words) {
    return AsFloats((words & static_cast<uint32_t>(kMask)) | static_cast<uint32_t>(kExponent));
  }
  static NUDGE_INLINE Floats UpperHalf(const Words& words) { return AsFloats(words & 0xFFFF0000u); }
  static NUDGE_INLINE Floats LowerHalf(const Words& words) { return AsFloats(words << 16); }

 private:
  static NUDGE_INLINE Floats AsFloats(const Words& words) {
    return reinterpret_cast<Floats>(words);
  }
  static NUDGE_INLINE Words AsWords(const Floats& floats) {
    return reinterpret_cast<Words>(floats);
  }
};

}  // namespace

const ProductKernel kPortableProducts = MultiplyWith<Portable>;

}  // namespace nudge
