// labels: unit
// Products of the answer engine: every form, path, number of rows and cut gives the bits of three
// plain loops, by fused multiply-adds or, on the portable path, rounded apart.
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "stages/model/engine/products.h"
#include "stages/model/trainer/gemm.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

// W in one form, and as the floats that ggml makes of it.
struct Weights {
  Weights(size_t out, size_t in, WeightForm form)
      : memory(AllocateFloats(PackedMatrix::Floats(out, in, form))),
        packed(out, in, form, memory.get()),
        floats(out * in) {}

  AlignedFloats memory;
  PackedMatrix packed;
  std::vector<float> floats;  // [out, in]
};

std::optional<ggml_type> StoredType(WeightForm form) {
  switch (form) {
    case WeightForm::kFloats:
      return std::nullopt;
    case WeightForm::kBf16:
      return GGML_TYPE_BF16;
    case WeightForm::kQ4_1:
      return GGML_TYPE_Q4_1;
    case WeightForm::kQ8_0:
      return GGML_TYPE_Q8_0;
  }
  return std::nullopt;
}

Weights WeightsOf(WeightForm form, size_t out, size_t in, uint64_t seed) {
  Weights weights(out, in, form);
  for (size_t i = 0; i < out * in; ++i) weights.floats[i] = Uniform(seed, i) + 0.25f;
  const auto type = StoredType(form);
  if (!type) {
    for (size_t row = 0; row < out; ++row) {
      weights.packed.WriteFloats(row, std::span(weights.floats).subspan(row * in, in));
    }
    return weights;
  }
  const auto width = static_cast<int64_t>(in);
  const size_t row_bytes = ggml_row_size(*type, width);
  std::vector<uint8_t> stored(row_bytes * out);
  ggml_quantize_chunk(*type, weights.floats.data(), stored.data(), 0, static_cast<int64_t>(out),
                      width, nullptr);
  for (size_t row = 0; row < out; ++row) {
    const uint8_t* const from = stored.data() + row * row_bytes;
    if (form == WeightForm::kQ4_1) BOOST_REQUIRE(PackedMatrix::HoldsQ4_1(from, in / 32));
    weights.packed.WriteStored(row, from);
    ggml_get_type_traits(*type)->to_float(from, weights.floats.data() + row * in, width);
  }
  return weights;
}

// The twin.
std::vector<float> PlainProduct(const Weights& weights, const std::vector<float>& x, size_t rows,
                                std::vector<float> y, ProductMode mode,
                                ProductPath path = FastestPath()) {
  const size_t in = weights.packed.in();
  const size_t out = weights.packed.out();
  for (size_t row = 0; row < rows; ++row) {
    for (size_t o = 0; o < out; ++o) {
      float& to = y[row * out + o];
      float sum = mode == ProductMode::kContinue ? to : 0.0f;
      for (size_t k = 0; k < in; ++k) {
        const float w = weights.floats[o * in + k];
        const float a = x[row * in + k];
        sum = path == ProductPath::kPortable ? sum + w * a : std::fma(w, a, sum);
      }
      to = mode == ProductMode::kAdd ? to + sum : sum;
    }
  }
  return y;
}

std::vector<float> Random(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Uniform(seed, i);
  return values;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Size {
  size_t out, in;
};

void ExpectTheTwinsBits(WeightForm form, ProductPath path, Size size, size_t rows,
                        ProductMode mode) {
  const Weights weights = WeightsOf(form, size.out, size.in, 1);
  const auto x = Random(rows * size.in, 2);
  const auto before = Random(rows * size.out, 3);
  const auto expected = PlainProduct(weights, x, rows, before, mode, path);
  auto y = before;
  const Panels panels = PanelsOf(weights.packed);
  MultiplyPanels(panels, 0, panels.count(), {rows, x.data(), size.in, y.data(), size.out, mode},
                 path);
  BOOST_TEST(SameBits(y, expected), "form " << static_cast<int>(form) << ", path " << Name(path)
                                            << ", " << rows << " rows, " << size.out << " x "
                                            << size.in << ", mode " << static_cast<int>(mode));
}

constexpr WeightForm kForms[] = {WeightForm::kFloats, WeightForm::kBf16, WeightForm::kQ4_1,
                                 WeightForm::kQ8_0};

template <class Body>
void ForPaths(Body&& body) {
  for (const ProductPath path : kProductPaths) {
    if (HasPath(path)) body(path);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_paths_of_this_processor_are_there) {
  BOOST_TEST(HasPath(ProductPath::kPortable));
  BOOST_TEST(HasPath(ProductPath::kPlain));
  BOOST_TEST((FastestPath() != ProductPath::kPortable));
  BOOST_TEST(HasPath(FastestPath()));
#ifdef __x86_64__
  BOOST_TEST(HasPath(ProductPath::kAvx2) == (__builtin_cpu_supports("avx2") != 0));
  BOOST_TEST(HasPath(ProductPath::kAvx512) == (__builtin_cpu_supports("avx512bw") != 0));
#endif
}

BOOST_AUTO_TEST_CASE(every_form_on_every_path_has_the_twins_bits_for_any_number_of_rows) {
  ForPaths([](ProductPath path) {
    for (const WeightForm form : kForms) {
      for (size_t rows = 1; rows <= 64; ++rows) {
        ExpectTheTwinsBits(form, path, {100, 96}, rows, ProductMode::kSet);
      }
    }
  });
}

BOOST_AUTO_TEST_CASE(every_shape_of_a_panel_and_every_mode_has_the_twins_bits) {
  ForPaths([](ProductPath path) {
    for (const WeightForm form : kForms) {
      for (const size_t out : {1u, 15u, 16u, 33u, 49u, 64u, 65u, 128u, 150u}) {
        for (const size_t rows : {1u, 3u, 4u, 13u}) {
          for (const ProductMode mode :
               {ProductMode::kSet, ProductMode::kAdd, ProductMode::kContinue}) {
            ExpectTheTwinsBits(form, path, {out, 64}, rows, mode);
          }
        }
      }
    }
    for (const size_t in : {1u, 2u, 5u, 17u}) {
      ExpectTheTwinsBits(WeightForm::kFloats, path, {67, in}, 7, ProductMode::kSet);
    }
    ExpectTheTwinsBits(WeightForm::kBf16, path, {67, 18}, 7, ProductMode::kSet);
  });
}

// More k than a chunk that is widened at a time, more rows than sums are kept of at a time.
BOOST_AUTO_TEST_CASE(chunks_of_many_rows_and_long_sums_have_the_twins_bits) {
  ForPaths([](ProductPath path) {
    for (const WeightForm form : kForms) {
      ExpectTheTwinsBits(form, path, {20, 1600}, 5, ProductMode::kSet);
      ExpectTheTwinsBits(form, path, {20, 64}, 300, ProductMode::kAdd);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_product_in_pieces_along_k_continues_to_the_same_bits) {
  const size_t out = 70, in = 41, rows = 5;
  const Weights whole = WeightsOf(WeightForm::kFloats, out, in, 4);
  const auto x = Random(rows * in, 5);
  const auto expected =
      PlainProduct(whole, x, rows, std::vector<float>(rows * out), ProductMode::kSet);
  for (const size_t first : {1u, 7u, 40u}) {
    std::vector<float> y(rows * out, 9.0f);
    for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, first}, {first, in}}) {
      Weights part(out, end - begin, WeightForm::kFloats);
      PackedMatrix& piece = part.packed;
      for (size_t row = 0; row < out; ++row) {
        piece.WriteFloats(row, std::span(whole.floats).subspan(row * in + begin, end - begin));
      }
      const ProductMode mode = begin == 0 ? ProductMode::kSet : ProductMode::kContinue;
      const Panels panels = PanelsOf(piece);
      MultiplyPanels(panels, 0, panels.count(), {rows, x.data() + begin, in, y.data(), out, mode});
    }
    BOOST_TEST(SameBits(y, expected));
  }
}

BOOST_AUTO_TEST_CASE(any_number_of_threads_gives_the_same_bits) {
  const size_t out = 2000, in = 512;
  for (const WeightForm form : kForms) {
    const Weights weights = WeightsOf(form, out, in, 6);
    const Panels panels = PanelsOf(weights.packed);
    for (const size_t rows : {1u, 9u, 40u}) {
      BOOST_TEST(ProductParts(panels, rows).size() > 1U);
      const auto x = Random(rows * in, 7);
      const auto expected =
          PlainProduct(weights, x, rows, std::vector<float>(rows * out), ProductMode::kSet);
      for (const int threads : {1, 2, 3}) {
        std::vector<float> y(rows * out);
        Multiply(panels, {rows, x.data(), in, y.data(), out}, ThreadsFor(threads));
        BOOST_TEST(SameBits(y, expected));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(parts_cover_all_panels_and_small_products_are_not_cut) {
  const Panels large{WeightForm::kQ4_1, 2000, 2048, nullptr};
  const ProductParts parts(large, 1);
  size_t next = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    BOOST_TEST(parts.First(part) == next);
    BOOST_TEST(parts.Count(part) > 0U);
    next += parts.Count(part);
  }
  BOOST_TEST(next == large.count());
  BOOST_TEST(ProductParts({WeightForm::kFloats, 200, 64, nullptr}, 1).size() == 1U);
}

BOOST_AUTO_TEST_CASE(rows_with_gaps_between_them_leave_the_gaps_alone) {
  const Weights weights = WeightsOf(WeightForm::kQ8_0, 70, 32, 8);
  const auto x = Random(3 * 40, 9);
  std::vector<float> y(3 * 80, 5.0f);
  const Panels panels = PanelsOf(weights.packed);
  MultiplyPanels(panels, 0, panels.count(), {3, x.data(), 40, y.data(), 80});
  for (size_t row = 0; row < 3; ++row) {
    for (size_t c = 70; c < 80; ++c) BOOST_TEST(y[row * 80 + c] == 5.0f);
  }
}

// Scales and offsets of every size that f16 has, weights of every value: what the kernels take is
// what ggml makes of the file.
BOOST_AUTO_TEST_CASE(q4_1_blocks_that_the_kernels_cannot_hold_are_told) {
  size_t held = 0;
  size_t told = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    uint8_t block[20];
    for (size_t i = 0; i < sizeof block; ++i) {
      block[i] = static_cast<uint8_t>(128 + 127 * Uniform(seed, i));
    }
    block[1] &= 0xBB;  // finite
    block[3] &= 0xBB;
    if (!PackedMatrix::HoldsQ4_1(block, 1)) {
      ++told;
      continue;
    }
    ++held;
    Weights one(1, 32, WeightForm::kQ4_1);
    PackedMatrix& packed = one.packed;
    packed.WriteStored(0, block);
    std::vector<float> expected(32);
    ggml_get_type_traits(GGML_TYPE_Q4_1)->to_float(block, expected.data(), 32);
    std::vector<float> x(32 * 32), y(32);
    for (size_t k = 0; k < 32; ++k) x[33 * k] = 1;  // one weight each
    ForPaths([&](ProductPath path) {
      MultiplyPanels(PanelsOf(packed), 0, 1, {32, x.data(), 32, y.data(), 1}, path);
      for (size_t k = 0; k < 32; ++k) BOOST_TEST(y[k] == expected[k]);
    });
  }
  BOOST_TEST(held > 1000U);
  BOOST_TEST(told > 100U);
}

// Every scale that a block can have, by every path: of Q8_0, whose numbers need more than a float's
// bits on their way.
BOOST_AUTO_TEST_CASE(every_scale_of_a_block_comes_out_as_ggml_makes_it) {
  std::vector<float> x(32 * 32), y(32), expected(32);
  for (size_t k = 0; k < 32; ++k) x[33 * k] = 1;  // one weight each
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half & 0x7C00) == 0x7C00) continue;  // not finite
    uint8_t block[34] = {static_cast<uint8_t>(half & 0xFF), static_cast<uint8_t>(half >> 8)};
    for (size_t k = 0; k < 32; ++k) block[2 + k] = static_cast<uint8_t>(8 * k + half % 8);
    Weights one(1, 32, WeightForm::kQ8_0);
    one.packed.WriteStored(0, block);
    ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(block, expected.data(), 32);
    ForPaths([&](ProductPath path) {
      MultiplyPanels(PanelsOf(one.packed), 0, 1, {32, x.data(), 32, y.data(), 1}, path);
      if (y != expected) BOOST_ERROR("scale " << half << ", path " << Name(path));
    });
  }
}
