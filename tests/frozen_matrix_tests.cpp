// labels: unit
#include <ggml.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "stages/model/trainer/frozen_matrix.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::ThreadsFor;
using testing::Uniform;

std::vector<float> RandomValues(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Uniform(seed, i);
  return values;
}

struct Products {
  std::vector<float> y, accumulated, dx;
  bool operator==(const Products& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(y, other.y) && same(accumulated, other.accumulated) && same(dx, other.dx);
  }
};

std::vector<uint16_t> Rounded(const std::vector<float>& values) {
  std::vector<uint16_t> rounded(values.size());
  ToBf16(values.data(), values.size(), rounded.data());
  return rounded;
}

// All products of a matrix with `rows` rows, tile by tile, which are rounded before or by the tile.
Products ProductsOf(const FrozenMatrix& weight, size_t rows, int threads, bool rounds = false) {
  const auto x = RandomValues(rows * weight.in(), 5);
  const auto dy = RandomValues(rows * weight.out(), 6);
  Products products{std::vector<float>(dy.size()), dy, std::vector<float>(x.size())};
  const std::vector<uint16_t> rounded_x = Rounded(x), rounded_dy = Rounded(dy);
  const uint16_t* const x16 = rounds ? rounded_x.data() : nullptr;
  const uint16_t* const dy16 = rounds ? rounded_dy.data() : nullptr;
  const Tiles forward(rows, weight.out());
  RunParts(ThreadsFor(threads), forward.size(), [&](size_t i) {
    weight.Forward(forward[i], x.data(), weight.in(), false, products.y.data(), weight.out(), x16);
    weight.Forward(forward[i], x.data(), weight.in(), true, products.accumulated.data(),
                   weight.out(), x16);
  });
  const Tiles backward(rows, weight.in());
  RunParts(ThreadsFor(threads), backward.size(), [&](size_t i) {
    weight.Backward(backward[i], dy.data(), weight.out(), products.dx.data(), weight.in(), dy16);
  });
  return products;
}

FrozenMatrix Written(const std::vector<float>& values, size_t in, BaseForm form) {
  FrozenMatrix matrix(values.size() / in, in, form);
  for (size_t row = 0; row < matrix.out(); ++row) {
    matrix.Write(row, std::span(values).subspan(row * in, in));
  }
  return matrix;
}

// A matrix as it lies in a file: two tensors of a type, one below the other.
struct Stored {
  Stored(size_t out, size_t in, ggml_type type, uint64_t seed) : width(in) {
    values = RandomValues(out * in, seed);
    const size_t row_bytes = ggml_row_size(type, static_cast<int64_t>(in));
    bytes.resize(row_bytes * out);
    ggml_quantize_chunk(type, values.data(), bytes.data(), 0, static_cast<int64_t>(out),
                        static_cast<int64_t>(in), nullptr);
    const auto widen = ggml_get_type_traits(type)->to_float;
    widen(bytes.data(), values.data(), static_cast<int64_t>(values.size()));
    const size_t first = out / 3;
    for (const auto& [begin, rows] : {std::pair(size_t{0}, first), std::pair(first, out - first)}) {
      parts.push_back({.data = bytes.data() + begin * row_bytes,
                       .rows = rows,
                       .row_bytes = row_bytes,
                       .block = static_cast<size_t>(ggml_blck_size(type)),
                       .block_bytes = ggml_type_size(type),
                       .widen = widen});
    }
  }
  FrozenMatrix InPlace(BaseProducts products) const {
    FrozenMatrix matrix(values.size() / width, width, {products, true});
    for (const FileRows& part : parts) matrix.Append(part);
    return matrix;
  }

  size_t width;
  std::vector<float> values;  // what the bytes say
  std::vector<uint8_t> bytes;
  std::vector<FileRows> parts;
};

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  return testing::RelativeL2(a, std::vector<double>(b.begin(), b.end()));
}

BOOST_AUTO_TEST_CASE(tiles_of_a_frozen_matrix_make_the_whole_product_and_its_transpose) {
  const size_t rows = 300, out = 500, in = 130;
  const auto values = RandomValues(out * in, 4);
  const FrozenMatrix weight = Written(values, in, {});
  const Products products = ProductsOf(weight, rows, 1);
  std::vector<float> y(rows * out), dx(rows * in);
  MultiplyReference(Transpose::kNo, Transpose::kYes, rows, out, in, 1,
                    RandomValues(rows * in, 5).data(), in, values.data(), in, 0, y.data(), out);
  MultiplyReference(Transpose::kNo, Transpose::kNo, rows, in, out, 1,
                    RandomValues(rows * out, 6).data(), out, values.data(), in, 0, dx.data(), in);
  BOOST_TEST(RelativeDifference(products.y, y) < 1e-6);
  BOOST_TEST(RelativeDifference(products.dx, dx) < 1e-6);
  std::vector<float> row(in);
  weight.Row(77, row.data());
  BOOST_TEST(std::memcmp(row.data(), values.data() + 77 * in, in * sizeof(float)) == 0);
  BOOST_TEST(weight.bytes() == out * in * sizeof(float));
}

// 9,000 rows are more than one block of rows of the backward sum; blocks of 32 and of 256 numbers
// do not end where tiles do.
BOOST_AUTO_TEST_CASE(a_matrix_read_in_place_makes_the_bytes_of_one_in_memory_at_any_threads) {
  struct Size {
    size_t out, in, rows;
    ggml_type type;
  };
  for (const Size& size : {Size{192, 576, 100, GGML_TYPE_Q4_1}, Size{9000, 576, 40, GGML_TYPE_Q4_0},
                           Size{96, 1536, 300, GGML_TYPE_Q8_0}, Size{576, 1536, 70, GGML_TYPE_Q6_K},
                           Size{300, 768, 33, GGML_TYPE_Q4_K}, Size{67, 36, 20, GGML_TYPE_F16},
                           Size{67, 36, 20, GGML_TYPE_BF16}}) {
    const Stored stored(size.out, size.in, size.type, 9);
    for (const BaseProducts products : testing::ProductsHere()) {
      const FrozenMatrix memory = Written(stored.values, size.in, {products, false});
      const FrozenMatrix file = stored.InPlace(products);
      const Products expected = ProductsOf(memory, size.rows, 1);
      for (const int threads : {1, 2, 4}) {
        BOOST_TEST((ProductsOf(file, size.rows, threads) == expected),
                   ggml_type_name(size.type) << ' ' << Name(products) << ", threads " << threads);
      }
      BOOST_TEST((ProductsOf(memory, size.rows, 3) == expected));
      BOOST_TEST((ProductsOf(memory, size.rows, 2, true) == expected));
      BOOST_TEST((ProductsOf(file, size.rows, 2, true) == expected));
      std::vector<float> of_memory(size.in), of_file(size.in);
      memory.Row(size.out / 2, of_memory.data());
      file.Row(size.out / 2, of_file.data());
      BOOST_TEST(of_memory == of_file);
      BOOST_TEST(file.bytes() == 0u);
      BOOST_TEST(memory.bytes() == size.out * size.in * (products == BaseProducts::kBf16 ? 2 : 4));
    }
  }
}

BOOST_AUTO_TEST_CASE(bf16_products_are_within_their_rounding_of_f32_ones) {
  if (!HasBf16Products()) {
    BOOST_TEST_MESSAGE("this processor has no bf16 products: nothing to test here");
    return;
  }
  for (const auto& [out, in] : {std::pair<size_t, size_t>{960, 576}, {3072, 576}, {576, 1536}}) {
    const auto values = RandomValues(out * in, 4);
    const Products f32 = ProductsOf(Written(values, in, {}), 128, 1);
    const Products bf16 = ProductsOf(Written(values, in, {BaseProducts::kBf16, false}), 128, 1);
    // Each factor is off by 2^-9 at most, evenly: 2^-9 / sqrt(3) each, sqrt(2) times for both.
    BOOST_TEST(RelativeDifference(bf16.y, f32.y) < 3e-3);
    BOOST_TEST(RelativeDifference(bf16.dx, f32.dx) < 3e-3);
    BOOST_TEST(RelativeDifference(bf16.y, f32.y) > 1e-4);  // it is another path
  }
}

}  // namespace
}  // namespace nudge
