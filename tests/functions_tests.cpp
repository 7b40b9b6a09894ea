// labels: unit
// Against the C library's long doubles, which are exact enough to tell an ulp of a double.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <regex>

#include "stages/model/trainer/functions.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

constexpr int kDraws = 100'000;

// In [low, high).
double Drawn(uint64_t seed, int index, double low, double high) {
  const auto u = static_cast<double>(testing::Uniform(seed, static_cast<uint64_t>(index)));
  return low + (high - low) * (u + 1) / 2;
}

// How far off `result` is, in steps from one double to the next at `exact`.
double Ulps(double result, long double exact) {
  const double size = std::fabs(static_cast<double>(exact));
  const double step = std::nextafter(size, std::numeric_limits<double>::infinity()) - size;
  return static_cast<double>(std::fabs(static_cast<long double>(result) - exact)) / step;
}

BOOST_AUTO_TEST_CASE(exponentials_and_logarithms_are_within_one_ulp) {
  double exponential = 0, logarithm = 0;
  for (int i = 0; i < kDraws; ++i) {
    for (const double bound : {0.01, 2.0, 700.0}) {
      const double x = Drawn(1, i, -bound, bound);
      exponential =
          std::max(exponential, Ulps(Exponential(x), std::exp(static_cast<long double>(x))));
    }
    for (const double x : {Drawn(2, i, 0.5, 2), Drawn(3, i, 0, 1e9),
                           std::exp(Drawn(4, i, -700, 700)), 1 + Drawn(5, i, -1e-6, 1e-6)}) {
      logarithm = std::max(logarithm, Ulps(Logarithm(x), std::log(static_cast<long double>(x))));
    }
  }
  BOOST_TEST_MESSAGE("exponential " << exponential << " ulp, logarithm " << logarithm);
  BOOST_TEST(exponential < 1);
  BOOST_TEST(logarithm < 1);
}

BOOST_AUTO_TEST_CASE(cosines_and_sines_of_every_position_are_within_one_ulp) {
  double worst = 0, near_zero = 0;
  const auto look = [&](double result, long double exact) {
    near_zero = std::max(near_zero,
                         std::fabs(static_cast<double>(static_cast<long double>(result) - exact)));
    if (std::fabs(exact) > 1e-3L) worst = std::max(worst, Ulps(result, exact));
  };
  for (int i = 0; i < kDraws; ++i) {
    const double position = std::floor(Drawn(1, i, 0, 131072));
    for (const double angle : {position, position * std::pow(10000.0, Drawn(2, i, -1, 0)),
                               Drawn(3, i, -1e6, 1e6), Drawn(4, i, -4, 4)}) {
      const CosineSine turn = CosineSineOf(angle);
      look(turn.cosine, std::cos(static_cast<long double>(angle)));
      look(turn.sine, std::sin(static_cast<long double>(angle)));
    }
  }
  BOOST_TEST_MESSAGE(worst << " ulp, " << near_zero);
  BOOST_TEST(worst < 1);
  BOOST_TEST(near_zero < 1.2e-16);
}

BOOST_AUTO_TEST_CASE(powers_are_within_what_their_header_says) {
  double worst = 0;
  for (int i = 0; i < kDraws; ++i) {
    for (const auto& [base, exponent] : {std::pair{Drawn(1, i, 0.5, 1), Drawn(2, i, 0, 1000)},
                                         std::pair{Drawn(1, i, 1000, 1e7), Drawn(2, i, -1, 0)}}) {
      const long double exact = std::pow(static_cast<long double>(base), exponent);
      const long double off =
          std::fabs((static_cast<long double>(Power(base, exponent)) - exact) / exact);
      worst =
          std::max(worst, static_cast<double>(off) / (1 + std::fabs(exponent * std::log(base))));
    }
  }
  BOOST_TEST_MESSAGE(worst);
  BOOST_TEST(worst < 4e-16);
  BOOST_TEST(Power(0, 0) == 1);
  BOOST_TEST(Power(0.9, 0) == 1);
  BOOST_TEST(Power(0, 3) == 0);
}

BOOST_AUTO_TEST_CASE(the_ends_of_the_functions_are_those_of_the_c_library) {
  const double infinity = std::numeric_limits<double>::infinity();
  BOOST_TEST(Exponential(0) == 1);
  BOOST_TEST(Exponential(710) == infinity);
  BOOST_TEST(Exponential(infinity) == infinity);
  BOOST_TEST(Exponential(-infinity) == 0);
  BOOST_TEST(Exponential(-746) == 0);
  BOOST_TEST(Exponential(-740) == std::exp(-740.0));  // not normal
  BOOST_TEST(std::isnan(Exponential(std::nan(""))));
  BOOST_TEST(Logarithm(1) == 0);
  BOOST_TEST(Logarithm(0) == -infinity);
  BOOST_TEST(Logarithm(infinity) == infinity);
  BOOST_TEST(Logarithm(5e-324) == std::log(5e-324));
  BOOST_TEST(std::isnan(Logarithm(-1)));
  BOOST_TEST(std::isnan(Logarithm(std::nan(""))));
  BOOST_TEST(CosineSineOf(0).cosine == 1);
  BOOST_TEST(CosineSineOf(0).sine == 0);
}

// Bits, not nearness: of every machine and compiler.
BOOST_AUTO_TEST_CASE(a_thousand_results_have_the_bits_that_they_have_everywhere) {
  uint64_t hash = 1469598103934665603u;
  const auto add = [&](double x) {
    uint64_t bits;
    static_assert(sizeof bits == sizeof x);
    std::memcpy(&bits, &x, sizeof bits);
    for (int i = 0; i < 8; ++i) hash = (hash ^ (bits >> (8 * i) & 255u)) * 1099511628211u;
  };
  for (int i = 0; i < 250; ++i) {
    add(Exponential(Drawn(1, i, -20, 20)));
    add(Logarithm(Drawn(2, i, 0.001, 1000)));
    const CosineSine turn = CosineSineOf(Drawn(3, i, -3000, 3000));
    add(turn.cosine);
    add(turn.sine);
  }
  BOOST_TEST(hash == 17357222474470525331u);
}

// What decides a lesson calls these, not the C library's, whose bits are of one machine.
BOOST_AUTO_TEST_CASE(neither_trainer_nor_learner_calls_an_elementary_function_of_the_c_library) {
  static const std::regex kCall(
      R"(std::(exp|exp2|expm1|log|log2|log10|log1p|pow|sin|cos|tan|tanh|cbrt|erf)f?\()");
  size_t files = 0;
  for (const char* folder : {"stages/model/trainer", "stages/model/learn"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(NUDGE_SOURCE_DIR) / folder)) {
      const std::string name = entry.path().filename().string();
      if (name.find("_reference.") != std::string::npos) continue;
      ++files;
      BOOST_TEST(!std::regex_search(testing::FileBytes(entry.path()), kCall), name);
    }
  }
  BOOST_TEST(files > 50u);
}

}  // namespace
}  // namespace nudge
