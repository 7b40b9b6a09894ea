// labels: unit
#include "stages/dense_scan.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "stages/hash.h"

using namespace nudge;

namespace {

const std::vector<std::string> kPaths = {"avx512", "avx2", "scalar"};

std::vector<float> RandomFloats(uint64_t seed, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(2 * UniformAt(seed, i) - 1);
  return values;
}

// The path that was chosen at the start comes back whatever a case does.
struct KeepPath {
  std::string before{DenseScanPath()};
  ~KeepPath() { UseDenseScanPath(before); }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(every_path_agrees_with_the_obvious_sum, KeepPath) {
  size_t paths_run = 0;
  for (const std::string& path : kPaths) {
    if (!UseDenseScanPath(path)) continue;
    BOOST_TEST(DenseScanPath() == path);
    ++paths_run;
    for (const size_t dimension : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 100, 384, 385}) {
      for (const size_t count : {0, 1, 2, 3, 4, 5, 7, 8, 13}) {
        const std::vector<float> query = RandomFloats(dimension, dimension);
        const std::vector<float> rows = RandomFloats(count + 1, count * dimension);
        std::vector<float> out(count + 1, -7);
        DotProducts(query.data(), rows.data(), count, dimension, out.data());
        for (size_t i = 0; i < count; ++i) {
          double expected = 0;
          for (size_t j = 0; j < dimension; ++j) {
            expected += static_cast<double>(query[j]) * rows[i * dimension + j];
          }
          BOOST_REQUIRE_SMALL(out[i] - expected, 1e-5 * std::sqrt(static_cast<double>(dimension)));
        }
        BOOST_REQUIRE_EQUAL(out[count], -7);  // nothing behind the end
      }
    }
  }
  BOOST_TEST_MESSAGE(paths_run << " of " << kPaths.size() << " paths on this machine");
  BOOST_TEST(paths_run >= 1U);
}

BOOST_FIXTURE_TEST_CASE(a_product_does_not_depend_on_where_its_row_lies, KeepPath) {
  for (const std::string& path : kPaths) {
    if (!UseDenseScanPath(path)) continue;
    for (const size_t dimension : {5, 33, 384}) {
      const std::vector<float> query = RandomFloats(1, dimension);
      const std::vector<float> row = RandomFloats(2, dimension);
      float alone = 0;
      DotProducts(query.data(), row.data(), 1, dimension, &alone);
      for (size_t count = 1; count <= 11; ++count) {
        std::vector<float> rows;
        for (size_t i = 0; i < count; ++i) rows.insert(rows.end(), row.begin(), row.end());
        std::vector<float> out(count);
        DotProducts(query.data(), rows.data(), count, dimension, out.data());
        for (const float product : out) BOOST_REQUIRE_EQUAL(product, alone);
      }
    }
  }
}

BOOST_FIXTURE_TEST_CASE(an_unknown_path_changes_nothing, KeepPath) {
  BOOST_TEST(!UseDenseScanPath("avx1024"));
  BOOST_TEST(DenseScanPath() == before);
  BOOST_TEST(UseDenseScanPath("scalar"));
  BOOST_TEST(DenseScanPath() == "scalar");
}
