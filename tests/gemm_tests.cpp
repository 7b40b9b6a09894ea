// labels: unit
#include <omp.h>

#include <algorithm>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "stages/model/trainer/gemm.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::Uniform;

std::vector<float> RandomValues(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Uniform(seed, i);
  return values;
}

struct Case {
  size_t m, n, k;
};

double WorstDifference(MultiplyFunction multiply, Transpose ta, Transpose tb, const Case& c,
                       float beta) {
  const size_t a_stride = (ta == Transpose::kYes ? c.m : c.k) + 3;
  const size_t b_stride = (tb == Transpose::kYes ? c.k : c.n) + 5;
  const size_t c_stride = c.n + 7;
  const auto a = RandomValues((ta == Transpose::kYes ? c.k : c.m) * a_stride, 1);
  const auto b = RandomValues((tb == Transpose::kYes ? c.n : c.k) * b_stride, 2);
  auto result = RandomValues(c.m * c_stride, 3);
  auto expected = result;
  multiply(ta, tb, c.m, c.n, c.k, 0.7f, a.data(), a_stride, b.data(), b_stride, beta, result.data(),
           c_stride);
  MultiplyReference(ta, tb, c.m, c.n, c.k, 0.7f, a.data(), a_stride, b.data(), b_stride, beta,
                    expected.data(), c_stride);
  double worst = 0;
  for (size_t i = 0; i < result.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs(result[i] - expected[i])));
  }
  return worst;  // columns beyond n must be equal: they are not to be touched
}

constexpr MultiplyFunction kMultiplies[] = {Multiply, MultiplyPortable};

BOOST_AUTO_TEST_CASE(products_of_every_shape_agree_with_three_plain_loops) {
  for (const Case& c : {Case{1, 1, 1}, Case{5, 7, 3}, Case{32, 8, 576}, Case{17, 67, 33},
                        Case{64, 240, 100}, Case{8, 100, 129}, Case{200, 3, 65}, Case{1, 48, 48},
                        Case{3, 390, 260}, Case{259, 9, 5}, Case{4, 8, 256}}) {
    for (const MultiplyFunction multiply : kMultiplies) {
      for (const Transpose ta : {Transpose::kNo, Transpose::kYes}) {
        for (const Transpose tb : {Transpose::kNo, Transpose::kYes}) {
          for (const float beta : {0.0f, 1.0f, 0.25f}) {
            BOOST_TEST(WorstDifference(multiply, ta, tb, c, beta) <
                       3e-6 * std::sqrt(static_cast<double>(c.k)));
          }
        }
      }
    }
  }
}

// As its header says: one sum for each number, in the order of k, blocks of kPortableDepth.
BOOST_AUTO_TEST_CASE(a_portable_product_has_the_bits_of_one_plain_sum_for_each_number) {
  const Case c{37, 411, 700};
  const auto a = RandomValues(c.m * c.k, 1);
  const auto b = RandomValues(c.k * c.n, 2);
  const auto before = RandomValues(c.m * c.n, 3);
  for (const float beta : {0.0f, 1.0f, 0.25f}) {
    auto result = before;
    MultiplyPortable(Transpose::kNo, Transpose::kNo, c.m, c.n, c.k, 0.7f, a.data(), c.k, b.data(),
                     c.n, beta, result.data(), c.n);
    size_t other = 0;
    for (size_t i = 0; i < c.m; ++i) {
      for (size_t j = 0; j < c.n; ++j) {
        float expected = beta == 0 ? 0 : beta * before[i * c.n + j];
        for (size_t block = 0; block < c.k; block += kPortableDepth) {
          float sum = 0;
          for (size_t p = block; p < std::min(c.k, block + kPortableDepth); ++p) {
            sum += a[i * c.k + p] * b[p * c.n + j];
          }
          expected = expected + 0.7f * sum;
        }
        other += std::bit_cast<uint32_t>(expected) != std::bit_cast<uint32_t>(result[i * c.n + j]);
      }
    }
    BOOST_TEST(other == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_row_of_a_portable_product_has_the_same_bits_alone_and_among_others) {
  const Case c{300, 50, 300};
  const auto a = RandomValues(c.m * c.k, 1);
  const auto b = RandomValues(c.n * c.k, 2);
  std::vector<float> all(c.m * c.n), alone(c.n);
  const auto multiply = [&](size_t first, size_t rows, float* to) {
    MultiplyPortable(Transpose::kNo, Transpose::kYes, rows, c.n, c.k, 1, a.data() + first * c.k,
                     c.k, b.data(), c.k, 0, to, c.n);
  };
  multiply(0, c.m, all.data());
  for (size_t row = 0; row < c.m; ++row) {
    multiply(row, 1, alone.data());
    BOOST_TEST(std::memcmp(alone.data(), all.data() + row * c.n, c.n * sizeof(float)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(beta_zero_overwrites_whatever_was_there) {
  for (const MultiplyFunction multiply : kMultiplies) {
    std::vector<float> c(4, std::nanf(""));
    const std::vector<float> one(4, 1.0f);
    multiply(Transpose::kNo, Transpose::kNo, 2, 2, 2, 1, one.data(), 2, one.data(), 2, 0, c.data(),
             2);
    for (const float value : c) BOOST_TEST(value == 2.0f);
  }
}

BOOST_AUTO_TEST_CASE(the_path_of_products_names_library_and_instructions) {
  BOOST_TEST(GemmPath().starts_with("oneDNN "));
  BOOST_TEST(GemmPath().find(" isa ") != std::string::npos);
  BOOST_TEST(GemmPath() == GemmPath());
  BOOST_TEST(GemmPath(BaseProducts::kBf16).find(" bf16") != std::string::npos);
  BOOST_TEST(GemmPath(BaseProducts::kPortable) == "portable 1");  // of no machine
}

BOOST_AUTO_TEST_CASE(tiles_cover_every_cell_once) {
  for (const size_t rows : {1u, 31u, 256u, 257u, 700u}) {
    for (const size_t columns : {1u, 47u, 67u, 576u, 960u, 3072u, 4097u}) {
      const Tiles tiles(rows, columns);
      std::vector<int> covered(rows * columns);
      for (size_t i = 0; i < tiles.size(); ++i) {
        const auto tile = tiles[i];
        for (size_t r = tile.row; r < tile.row + tile.rows; ++r) {
          for (size_t c = tile.column; c < tile.column + tile.columns; ++c) {
            ++covered[r * columns + c];
          }
        }
      }
      BOOST_TEST((std::set<int>(covered.begin(), covered.end()) == std::set<int>{1}));
    }
  }
}

BOOST_AUTO_TEST_CASE(numbers_become_the_nearest_bf16_and_back) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> from = {0,      -0.0f, 1,    1.00390625f,   1.01171875f,
                                   1.004f, inf,   -inf, 3.4028235e38f, 0.1f};
  const std::vector<float> nearest = {0,          -0.0f, 1,    1,   1.015625f,
                                      1.0078125f, inf,   -inf, inf, 0.10009765625f};
  std::vector<uint16_t> bits(from.size());
  std::vector<float> back(from.size());
  ToBf16(from.data(), from.size(), bits.data());
  FromBf16(bits.data(), bits.size(), back.data());
  for (size_t i = 0; i < from.size(); ++i) {
    BOOST_TEST(std::bit_cast<uint32_t>(back[i]) == std::bit_cast<uint32_t>(nearest[i]));
  }
  for (const uint32_t nan : {0x7FFFFFFFu, 0x7F800001u, 0xFFFFFFFFu, 0xFF800001u}) {
    const auto value = std::bit_cast<float>(nan);
    ToBf16(&value, 1, bits.data());
    FromBf16(bits.data(), 1, back.data());
    BOOST_TEST(std::isnan(back[0]));
  }
}

// Products of bf16 numbers are exact in f32, so only the sum's order and its rounding differ.
BOOST_AUTO_TEST_CASE(bf16_products_agree_with_three_plain_loops_on_the_same_numbers) {
  if (!HasBf16Products()) {
    BOOST_TEST_MESSAGE("this processor has no bf16 products: nothing to test here");
    return;
  }
  for (const Case& c : {Case{1, 1, 1}, Case{5, 7, 3}, Case{32, 8, 576}, Case{17, 67, 33},
                        Case{64, 240, 100}, Case{8, 100, 129}, Case{200, 3, 65}, Case{1, 48, 48}}) {
    for (const Transpose tb : {Transpose::kNo, Transpose::kYes}) {
      for (const bool accumulate : {false, true}) {
        const size_t a_stride = c.k + 3;
        const size_t b_stride = (tb == Transpose::kYes ? c.k : c.n) + 5;
        const size_t b_size = (tb == Transpose::kYes ? c.n : c.k) * b_stride;
        std::vector<uint16_t> a(c.m * a_stride), b(b_size);
        ToBf16(RandomValues(a.size(), 1).data(), a.size(), a.data());
        ToBf16(RandomValues(b.size(), 2).data(), b.size(), b.data());
        std::vector<float> wide_a(a.size()), wide_b(b.size());
        FromBf16(a.data(), a.size(), wide_a.data());
        FromBf16(b.data(), b.size(), wide_b.data());
        auto result = RandomValues(c.m * (c.n + 7), 3);
        auto expected = result;
        MultiplyBf16(tb, c.m, c.n, c.k, a.data(), a_stride, b.data(), b_stride, accumulate,
                     result.data(), c.n + 7);
        MultiplyReference(Transpose::kNo, tb, c.m, c.n, c.k, 1, wide_a.data(), a_stride,
                          wide_b.data(), b_stride, accumulate ? 1.0f : 0.0f, expected.data(),
                          c.n + 7);
        double worst = 0;
        for (size_t i = 0; i < result.size(); ++i) {
          worst = std::max(worst, static_cast<double>(std::fabs(result[i] - expected[i])));
        }
        BOOST_TEST(worst < 4e-6 * std::sqrt(static_cast<double>(c.k)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_product_has_the_same_bits_on_any_thread_and_leaves_its_setting_alone) {
  const auto a = RandomValues(200 * 576, 7);
  const auto b = RandomValues(300 * 576, 8);
  const auto product = [&] {
    std::vector<float> c(200 * 300);
    Multiply(Transpose::kNo, Transpose::kYes, 200, 300, 576, 1, a.data(), 576, b.data(), 576, 0,
             c.data(), 300);
    return c;
  };
  const auto first = product();
  std::vector<std::vector<float>> others(4);
  int setting = 0;
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < others.size(); ++i) {
      threads.emplace_back([&, i] {
        omp_set_num_threads(3);
        others[i] = product();
        if (i == 0) setting = omp_get_max_threads();
      });
    }
  }
  BOOST_TEST(setting == 3);
  for (const auto& other : others) {
    BOOST_TEST(std::memcmp(first.data(), other.data(), first.size() * sizeof(float)) == 0);
  }
}

}  // namespace
}  // namespace nudge
