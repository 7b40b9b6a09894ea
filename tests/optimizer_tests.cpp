// labels: unit
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "stages/model/trainer/optimizer.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::Uniform;

BOOST_AUTO_TEST_CASE(steps_agree_with_the_formula_in_double) {
  const size_t size = 1001;
  AdamWOptions options;
  options.learning_rate = 0.01;
  options.weight_decay = 0.1;
  options.warmup_steps = 5;
  AdamW optimizer(size);
  std::vector<float> values(size), gradient(size);
  for (size_t i = 0; i < size; ++i) values[i] = Uniform(1, i);
  std::vector<double> expected(values.begin(), values.end()), m(size), v(size);
  for (uint64_t step = 1; step <= 20; ++step) {
    // Every other gradient is longer than the clip.
    double norm = 0;
    for (size_t i = 0; i < size; ++i) {
      gradient[i] = (step % 2 == 0 ? 1.0f : 0.01f) * Uniform(step + 1, i);
      norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    }
    const double clip = std::min(1.0, 1.0 / std::sqrt(norm));
    const auto t = static_cast<double>(step);
    const double strength = step % 3 == 0 ? 0.25 : 1;
    const double rate = 0.01 * strength * std::min(1.0, t / 5);
    for (size_t i = 0; i < size; ++i) {
      const double g = clip * static_cast<double>(gradient[i]);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      expected[i] -= 0.01 * 0.1 * expected[i];
      expected[i] -= rate * (m[i] / (1 - std::pow(0.9, t))) /
                     (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
    BOOST_REQUIRE(optimizer.Step(options, gradient, values, SerialFor(), strength).ok());
  }
  BOOST_TEST(testing::RelativeL2(values, expected) < 1e-5);
  BOOST_TEST(optimizer.steps() == 20u);
}

BOOST_AUTO_TEST_CASE(a_zero_gradient_moves_nothing) {
  AdamW optimizer(5);
  std::vector<float> values = {1, -2, 3, 0, 5};
  const auto before = values;
  BOOST_REQUIRE(optimizer.Step({}, std::vector<float>(5), values, SerialFor()).ok());
  BOOST_TEST(values == before);
}

BOOST_AUTO_TEST_CASE(a_gradient_that_is_not_finite_is_refused_and_changes_nothing) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::max()}) {  // its square is infinite
    AdamW optimizer(40);
    std::vector<float> values(40, 1), gradient(40, 0.1f);
    BOOST_REQUIRE(optimizer.Step({}, gradient, values, SerialFor()).ok());
    const auto before = values;
    const std::vector<float> first(optimizer.first_moment().begin(),
                                   optimizer.first_moment().end());
    gradient[33] = bad;
    const auto result = optimizer.Step({}, gradient, values, SerialFor());
    BOOST_REQUIRE(!result.ok());
    BOOST_TEST((result.error().code == Code::kModelFailed));
    BOOST_TEST(values == before);
    BOOST_TEST(optimizer.steps() == 1u);
    BOOST_TEST(std::equal(first.begin(), first.end(), optimizer.first_moment().begin()));
  }
}

BOOST_AUTO_TEST_CASE(a_step_has_the_same_bytes_at_any_number_of_threads) {
  const size_t size = 200'001;
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    AdamW optimizer(size);
    std::vector<float> values(size), gradient(size);
    for (size_t i = 0; i < size; ++i) gradient[i] = Uniform(1, i);
    for (int step = 0; step < 3; ++step) {
      BOOST_REQUIRE(optimizer.Step({}, gradient, values, testing::ThreadsFor(threads)).ok());
    }
    results.push_back(values);
  }
  BOOST_TEST((results[0] == results[1] && results[0] == results[2]));
}

}  // namespace
}  // namespace nudge
