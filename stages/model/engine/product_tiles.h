// The loops of products.h over one instruction set's vectors, for the file that compiles them with
// its flags: products_avx512.cpp, products_avx2.cpp, products_plain.cpp, products_portable.cpp.
//
// `Set` is that file's: a vector of lanes, and the few operations on it. MultiplyAdd(a, b, c) is
// a b + c, rounded once where the set is kFused, else the product first. What a sum passes through
// on its way from k = 0 to the last (registers, memory) rounds nothing, so that tiles, blocks and
// chunks are free to be what is fast: few rows multiply weights as they come out of their words,
// many rows widen a chunk of a panel once.
//
// Everything is in an anonymous namespace on purpose: no function that was compiled for one
// instruction set may be linked into another's file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "stages/model/engine/product_kernels.h"

// A sanitizer checks each load: in loops that are unrolled by force it would compile for minutes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NUDGE_INLINE inline
#define NUDGE_INLINE_LAMBDA
#else
#define NUDGE_INLINE inline __attribute__((always_inline))
#define NUDGE_INLINE_LAMBDA __attribute__((always_inline))
#endif

namespace nudge {
namespace {

// Bytes before a number's place in memory at which it is asked for: some units of a wide panel.
constexpr size_t kAhead = 5120;
// Rows up to which weights are multiplied as they come out of their words, without being written
// down: in tiles as wide as can be, and in half as wide ones with room for more rows.
constexpr size_t kWideRows = 3;
constexpr size_t kDirectRows = 8;

template <class Body, size_t... kIndex>
NUDGE_INLINE void UnrollOver(Body&& body, std::index_sequence<kIndex...>) {
  (body(std::integral_constant<size_t, kIndex>()), ...);
}
// Calls body(integral_constant<0>) .. body(integral_constant<kCount - 1>).
template <size_t kCount, class Body>
NUDGE_INLINE void Unroll(Body&& body) {
  UnrollOver(body, std::make_index_sequence<kCount>());
}

// A tile's columns: `kVectors` vectors of a panel of this width, from a column on.
struct TileColumns {
  const uint8_t* panel;
  size_t width;
  size_t column;
};

// A form's Unit calls take(k, weights[kVectors]) for each k of one unit, ascending.
template <class Set>
struct FloatsForm {
  static constexpr WeightForm kForm = WeightForm::kFloats;
  template <size_t kVectors, class Take>
  static NUDGE_INLINE void Unit(const uint8_t* unit, const TileColumns& at, Take&& take) {
    const float* const from = reinterpret_cast<const float*>(unit) + at.column;
    typename Set::Floats w[kVectors];
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA { w[v] = Set::Load(from + v * Set::kLanes); });
    take(size_t{0}, w);
  }
};

template <class Set>
struct Bf16Form {
  static constexpr WeightForm kForm = WeightForm::kBf16;
  template <size_t kVectors, class Take>
  static NUDGE_INLINE void Unit(const uint8_t* unit, const TileColumns& at, Take&& take) {
    typename Set::Floats w[kVectors];
    typename Set::Words words[kVectors];
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
      const uint8_t* const from = unit + 4 * (at.column + v * Set::kLanes);
      __builtin_prefetch(from + kAhead);
      words[v] = Set::LoadWords(from);
      w[v] = Set::UpperHalf(words[v]);
    });
    take(size_t{0}, w);
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA { w[v] = Set::LowerHalf(words[v]); });
    take(size_t{1}, w);
  }
};

// w = q d + m, as (2^e + q) d + (m - 2^e d): q d, and here m - 2^e d, are exact in f32, so that one
// rounding is left, the dequantiser's.
template <class Set>
struct Q4Form {
  static constexpr WeightForm kForm = WeightForm::kQ4_1;
  template <size_t kVectors, class Take>
  static NUDGE_INLINE void Unit(const uint8_t* unit, const TileColumns& at, Take&& take) {
    using Floats = typename Set::Floats;
    Floats d[kVectors];
    Floats of_low[kVectors];   // offsets of the fields at bit 15, 256 + q
    Floats of_high[kVectors];  // at bit 19, 16 + q
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
      const uint8_t* const from = unit + 2 * (at.column + v * Set::kLanes);
      __builtin_prefetch(from + kAhead);
      __builtin_prefetch(from + 2 * at.width + kAhead);
      d[v] = Set::LoadHalves(from);
      const Floats m = Set::LoadHalves(from + 2 * at.width);
      of_low[v] = Set::MultiplyAdd(d[v], Set::Broadcast(-256), m);
      of_high[v] = Set::MultiplyAdd(d[v], Set::Broadcast(-16), m);
    });
    for (size_t group = 0; group < kBlockNumbers / kQ4Fields; ++group) {
      typename Set::Words words[kVectors];
      Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
        const uint8_t* const from =
            unit + 4 * at.width * (1 + group) + 4 * (at.column + v * Set::kLanes);
        __builtin_prefetch(from + kAhead);
        words[v] = Set::LoadWords(from);
      });
      Unroll<kQ4Fields / 2>([&](auto pair) NUDGE_INLINE_LAMBDA {
        typename Set::Words turned[kVectors];
        Floats w[kVectors];
        Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
          turned[v] = Set::template RotateLeft<8 * pair>(words[v]);
          w[v] = Set::MultiplyAdd(Set::template Field<0xF << 15, 0x43800000>(turned[v]), d[v],
                                  of_low[v]);
        });
        take(kQ4Fields * group + 2 * pair, w);
        Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
          w[v] = Set::MultiplyAdd(Set::template Field<0xF << 19, 0x41800000>(turned[v]), d[v],
                                  of_high[v]);
        });
        take(kQ4Fields * group + 2 * pair + 1, w);
      });
    }
  }
};

// w = q d, as (2^e + 128 + q) d - (2^e + 128) d, in which everything is exact. A product that is
// rounded by itself would not be: there the difference comes first.
template <class Set>
struct Q8Form {
  static constexpr WeightForm kForm = WeightForm::kQ8_0;
  template <size_t kVectors, class Take>
  static NUDGE_INLINE void Unit(const uint8_t* unit, const TileColumns& at, Take&& take) {
    using Floats = typename Set::Floats;
    Floats d[kVectors];
    constexpr float kLow = -65664;  // of the fields at bit 7, 65536 + 128 + q
    constexpr float kHigh = -384;   // at bit 15, 256 + 128 + q
    Floats of_low[kVectors], of_high[kVectors];
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
      const uint8_t* const from = unit + 2 * (at.column + v * Set::kLanes);
      __builtin_prefetch(from + kAhead);
      d[v] = Set::LoadHalves(from);
      of_low[v] = Set::Multiply(d[v], Set::Broadcast(kLow));
      of_high[v] = Set::Multiply(d[v], Set::Broadcast(kHigh));
    });
    const auto weight = [](Floats field, Floats scale, Floats offset, float above)
                            NUDGE_INLINE_LAMBDA {
                              if constexpr (Set::kFused) {
                                return Set::MultiplyAdd(field, scale, offset);
                              } else {
                                return Set::Multiply(Set::Add(field, Set::Broadcast(above)), scale);
                              }
                            };
    for (size_t group = 0; group < kBlockNumbers / kQ8Fields; ++group) {
      typename Set::Words words[kVectors];
      Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
        const uint8_t* const from =
            unit + 2 * at.width + 4 * (group * at.width + at.column + v * Set::kLanes);
        __builtin_prefetch(from + kAhead);
        words[v] = Set::LoadWords(from);
      });
      Unroll<kQ8Fields / 2>([&](auto pair) NUDGE_INLINE_LAMBDA {
        typename Set::Words turned[kVectors];
        Floats w[kVectors];
        Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
          turned[v] = Set::template RotateLeft<16 * pair>(words[v]);
          w[v] =
              weight(Set::template Field<0xFF << 7, 0x47800000>(turned[v]), d[v], of_low[v], kLow);
        });
        take(kQ8Fields * group + 2 * pair, w);
        Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
          w[v] = weight(Set::template Field<0xFF << 15, 0x43800000>(turned[v]), d[v], of_high[v],
                        kHigh);
        });
        take(kQ8Fields * group + 2 * pair + 1, w);
      });
    }
  }
};

// sums[kRows, kVectors of lanes] go on over `numbers` k of x and of the panel.
template <class Form, class Set, size_t kRows, size_t kVectors>
NUDGE_INLINE void Tile(const TileColumns& at, size_t numbers, const float* x, size_t x_stride,
                       float* sums) {
  using Floats = typename Set::Floats;
  constexpr UnitLayout kUnit = LayoutOf(Form::kForm);
  Floats sum[kRows][kVectors];
  Unroll<kRows>([&](auto r) NUDGE_INLINE_LAMBDA {
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
      sum[r][v] = Set::Load(sums + r * kPanelColumns + v * Set::kLanes);
    });
  });
  const uint8_t* unit = at.panel;
  for (size_t k = 0; k < numbers; k += kUnit.numbers, unit += at.width * kUnit.column_bytes) {
    Form::template Unit<kVectors>(unit, at,
                                  [&](size_t step, const Floats(&w)[kVectors]) NUDGE_INLINE_LAMBDA {
                                    Unroll<kRows>([&](auto r) NUDGE_INLINE_LAMBDA {
                                      const Floats a = Set::Broadcast(x[r * x_stride + k + step]);
                                      Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
                                        sum[r][v] = Set::MultiplyAdd(w[v], a, sum[r][v]);
                                      });
                                    });
                                  });
  }
  Unroll<kRows>([&](auto r) NUDGE_INLINE_LAMBDA {
    Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
      Set::Store(sum[r][v], sums + r * kPanelColumns + v * Set::kLanes);
    });
  });
}

// One panel's columns and one chunk of k, for all rows whose sums these are.
template <class Set>
class PanelChunk {
 public:
  // `panel` is where the chunk begins; rows from x on, `numbers` of them count.
  PanelChunk(const uint8_t* panel, size_t width, size_t numbers, const float* x, size_t x_stride,
             size_t rows, float* sums)
      : panel_(panel),
        width_(width),
        numbers_(numbers),
        x_(x),
        x_stride_(x_stride),
        rows_(rows),
        sums_(sums) {}

  // Rows in tiles of about equal height, at most kMostRows x kMostVectors.
  template <class Form, size_t kMostRows, size_t kMostVectors>
  void Run() const {
    const size_t tiles = (rows_ + kMostRows - 1) / kMostRows;
    ForColumns<kMostVectors>(0, [&](auto vectors, size_t column) {
      for (size_t tile = 0; tile < tiles; ++tile) {
        const size_t first = rows_ * tile / tiles;
        const size_t count = rows_ * (tile + 1) / tiles - first;
        RunTile<Form, kMostRows, vectors>(column, first, count);
      }
    });
  }

  // The chunk as floats, [numbers, width].
  template <class Form>
  void Widen(float* to) const {
    ForColumns<Set::kVectors>(
        0, [&](auto vectors, size_t column) { WidenColumns<Form, vectors>(column, to); });
  }

 private:
  // Calls body(integral_constant<vectors>, column) until the panel is covered.
  template <size_t kVectors, class Body>
  void ForColumns(size_t column, const Body& body) const {
    constexpr size_t kColumns = kVectors * Set::kLanes;
    for (; width_ - column >= kColumns; column += kColumns) {
      body(std::integral_constant<size_t, kVectors>(), column);
    }
    if constexpr (kVectors > 1) ForColumns<kVectors / 2>(column, body);
  }

  template <class Form, size_t kVectors>
  void WidenColumns(size_t column, float* to) const {
    constexpr UnitLayout kUnit = LayoutOf(Form::kForm);
    const uint8_t* unit = panel_;
    for (size_t k = 0; k < numbers_; k += kUnit.numbers, unit += width_ * kUnit.column_bytes) {
      Form::template Unit<kVectors>(
          unit, {panel_, width_, column},
          [&](size_t step, const typename Set::Floats(&w)[kVectors]) NUDGE_INLINE_LAMBDA {
            Unroll<kVectors>([&](auto v) NUDGE_INLINE_LAMBDA {
              Set::Store(w[v], to + (k + step) * width_ + column + v * Set::kLanes);
            });
          });
    }
  }

  template <class Form, size_t kMostRows, size_t kVectors>
  void RunTile(size_t column, size_t first, size_t count) const {
    Unroll<kMostRows>([&](auto less) NUDGE_INLINE_LAMBDA {
      constexpr size_t kRows = less + 1;
      if (count == kRows) {
        Tile<Form, Set, kRows, kVectors>({panel_, width_, column}, numbers_, x_ + first * x_stride_,
                                         x_stride_, sums_ + first * kPanelColumns + column);
      }
    });
  }

  const uint8_t* panel_;
  size_t width_, numbers_;
  const float* x_;
  size_t x_stride_, rows_;
  float* sums_;
};

// Rows [first, first + count) of one panel: sums begin, go through all chunks of k, and end.
template <class Form, class Set>
void MultiplyBlock(const Panels& w, size_t panel, const ProductRows& rows, size_t first,
                   size_t count, const ProductScratch& scratch) {
  constexpr UnitLayout kUnit = LayoutOf(Form::kForm);
  const size_t begin = panel * kPanelColumns;
  const size_t columns = w.out - begin < kPanelColumns ? w.out - begin : kPanelColumns;
  const size_t width = (columns + kColumnStep - 1) / kColumnStep * kColumnStep;
  const uint8_t* const data = w.data + w.in / kUnit.numbers * begin * kUnit.column_bytes;
  const float* const x = rows.x + first * rows.x_stride;
  float* const y = rows.y + first * rows.y_stride + begin;
  for (size_t r = 0; r < count; ++r) {
    float* const sums = scratch.sums + r * kPanelColumns;
    const bool continues = rows.mode == ProductMode::kContinue;
    for (size_t c = 0; c < width; ++c) {
      sums[c] = continues && c < columns ? y[r * rows.y_stride + c] : 0;
    }
  }
  constexpr bool kWidens = Form::kForm != WeightForm::kFloats;
  const size_t step = kWidens && count > kDirectRows ? kWidenedRows : w.in;
  for (size_t k = 0; k < w.in; k += step) {
    const size_t numbers = w.in - k < step ? w.in - k : step;
    const uint8_t* const from = data + k / kUnit.numbers * width * kUnit.column_bytes;
    const PanelChunk<Set> chunk(from, width, numbers, x + k, rows.x_stride, count, scratch.sums);
    if constexpr (!kWidens) {
      chunk.template Run<Form, Set::kTileRows, Set::kVectors>();
    } else if (count <= kWideRows) {
      chunk.template Run<Form, kWideRows, Set::kVectors>();
    } else if (count <= kDirectRows) {
      chunk.template Run<Form, kDirectRows, Set::kVectors / 2>();
    } else {
      chunk.template Widen<Form>(scratch.widened);
      PanelChunk<Set>(reinterpret_cast<const uint8_t*>(scratch.widened), width, numbers, x + k,
                      rows.x_stride, count, scratch.sums)
          .template Run<FloatsForm<Set>, Set::kTileRows, Set::kVectors>();
    }
  }
  for (size_t r = 0; r < count; ++r) {
    const float* const sums = scratch.sums + r * kPanelColumns;
    float* const to = y + r * rows.y_stride;
    const bool adds = rows.mode == ProductMode::kAdd;
    for (size_t c = 0; c < columns; ++c) to[c] = adds ? to[c] + sums[c] : sums[c];
  }
}

template <class Form, class Set>
void MultiplyForm(const Panels& w, size_t first, size_t count, const ProductRows& rows,
                  const ProductScratch& scratch) {
  for (size_t panel = first; panel < first + count; ++panel) {
    for (size_t row = 0; row < rows.rows; row += kSumRows) {
      const size_t left = rows.rows - row;
      MultiplyBlock<Form, Set>(w, panel, rows, row, left < kSumRows ? left : kSumRows, scratch);
    }
  }
}

// A ProductKernel.
template <class Set>
void MultiplyWith(const Panels& w, size_t first, size_t count, const ProductRows& rows,
                  const ProductScratch& scratch) {
  switch (w.form) {
    case WeightForm::kFloats:
      return MultiplyForm<FloatsForm<Set>, Set>(w, first, count, rows, scratch);
    case WeightForm::kBf16:
      return MultiplyForm<Bf16Form<Set>, Set>(w, first, count, rows, scratch);
    case WeightForm::kQ4_1:
      return MultiplyForm<Q4Form<Set>, Set>(w, first, count, rows, scratch);
    case WeightForm::kQ8_0:
      return MultiplyForm<Q8Form<Set>, Set>(w, first, count, rows, scratch);
  }
}

}  // namespace
}  // namespace nudge
