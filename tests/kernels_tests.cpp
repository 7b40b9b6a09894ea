// labels: unit
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "stages/model/trainer/attention.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/kernels_reference.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::Uniform;

std::vector<float> RandomValues(size_t count, uint64_t seed, float width = 1) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = width * Uniform(seed, i);
  return values;
}

double Worst(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    // A NaN in one of them must not pass.
    const double difference = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = difference <= worst ? worst : difference;
  }
  return worst;
}

// Says how far off the values are, so that it can be quoted.
void ExpectNear(const char* name, const std::vector<float>& values,
                const std::vector<float>& expected, double bound) {
  const double worst = Worst(values, expected);
  BOOST_TEST_MESSAGE(name << " [" << values.size() << "] off by " << worst << ", bound " << bound);
  BOOST_TEST(worst < bound);
}

const std::vector<size_t> kWidths = {1, 8, 15, 16, 17, 44, 64, 576};

BOOST_AUTO_TEST_CASE(rms_norm_and_its_gradient_agree_with_their_twins) {
  for (const size_t width : kWidths) {
    const size_t rows = 5;
    const auto x = RandomValues(rows * width, 1, 3);
    const auto weight = RandomValues(width, 2);
    const auto dy = RandomValues(rows * width, 3);
    std::vector<float> y(rows * width), expected_y(rows * width);
    RmsNorm(x.data(), weight.data(), rows, width, 1e-5f, y.data());
    reference::RmsNorm(x.data(), weight.data(), rows, width, 1e-5f, expected_y.data());
    ExpectNear("y", y, expected_y, 1e-6);
    auto dx = RandomValues(rows * width, 4);
    auto expected_dx = dx;
    RmsNormBackward(x.data(), weight.data(), dy.data(), rows, width, 1e-5f, dx.data());
    reference::RmsNormBackward(x.data(), weight.data(), dy.data(), rows, width, 1e-5f,
                               expected_dx.data());
    ExpectNear("dx", dx, expected_dx, 3e-6);
  }
}

BOOST_AUTO_TEST_CASE(rotation_agrees_with_its_twin_and_backward_undoes_forward) {
  for (const size_t width : {2u, 8u, 18u, 64u}) {
    const size_t rows = 7;
    const auto x = RandomValues(rows * (width + 3), 1);
    std::vector<float> cosine(rows * width / 2), sine(rows * width / 2);
    for (size_t i = 0; i < cosine.size(); ++i) {
      cosine[i] = std::cos(static_cast<float>(i));
      sine[i] = std::sin(static_cast<float>(i));
    }
    using Rotate = decltype(&RotatePairs);
    for (const auto& [rotate, twin] :
         {std::pair<Rotate, Rotate>{RotatePairs, reference::RotatePairs},
          std::pair<Rotate, Rotate>{RotateHalves, reference::RotateHalves}}) {
      for (const Rotation rotation : {Rotation::kForward, Rotation::kBackward}) {
        std::vector<float> y(rows * width), expected(rows * width);
        rotate(rotation, x.data(), width + 3, rows, width, cosine.data(), sine.data(), 0.3f,
               y.data(), width);
        twin(rotation, x.data(), width + 3, rows, width, cosine.data(), sine.data(), 0.3f,
             expected.data(), width);
        ExpectNear("y", y, expected, 3e-7);
      }
      const auto dense = RandomValues(rows * width, 2);
      auto there_and_back = dense;
      for (const Rotation rotation : {Rotation::kForward, Rotation::kBackward}) {
        rotate(rotation, there_and_back.data(), width, rows, width, cosine.data(), sine.data(), 1,
               there_and_back.data(), width);
      }
      ExpectNear("there_and_back", there_and_back, dense, 1e-6);
    }
  }
}

BOOST_AUTO_TEST_CASE(swiglu_and_its_gradient_agree_with_their_twins) {
  for (const size_t width : kWidths) {
    const size_t rows = 4;
    const size_t stride = 2 * width + 1;
    for (const float range : {1.0f, 30.0f, 200.0f}) {
      const auto x = RandomValues(rows * stride, 1, range);
      const auto dy = RandomValues(rows * width, 2);
      std::vector<float> y(rows * width), expected_y(rows * width);
      SwiGlu(x.data(), x.data() + width, stride, rows, width, y.data(), width);
      reference::SwiGlu(x.data(), x.data() + width, stride, rows, width, expected_y.data(), width);
      ExpectNear("y", y, expected_y, 5e-7 * static_cast<double>(range * range));
      std::vector<float> d(rows * stride), expected(rows * stride);
      SwiGluBackward(x.data(), x.data() + width, stride, dy.data(), width, rows, width, d.data(),
                     d.data() + width, stride);
      reference::SwiGluBackward(x.data(), x.data() + width, stride, dy.data(), width, rows, width,
                                expected.data(), expected.data() + width, stride);
      ExpectNear("d", d, expected, 1e-6 * static_cast<double>(range));
    }
  }
}

BOOST_AUTO_TEST_CASE(causal_softmax_and_its_gradient_agree_with_their_twins) {
  for (const size_t first : {0u, 3u, 32u, 100u}) {
    const size_t rows = 9;
    const size_t keys = first + rows;
    const auto scores = RandomValues(rows * keys, 1, 20);
    auto p = scores, expected_p = scores;
    std::vector<float> log_sum(rows), expected_log_sum(rows);
    CausalSoftmax(p.data(), keys, first, rows, keys, log_sum.data());
    reference::CausalSoftmax(expected_p.data(), keys, first, rows, keys, expected_log_sum.data());
    ExpectNear("p", p, expected_p, 1e-6);
    ExpectNear("log_sum", log_sum, expected_log_sum, 4e-6);
    const auto dots = RandomValues(rows, 2);
    auto again = scores, expected_again = scores;
    auto d = RandomValues(rows * keys, 3), expected_d = d;
    CausalSoftmaxBackward(again.data(), keys, first, rows, keys, log_sum.data(), dots.data(),
                          d.data());
    reference::CausalSoftmaxBackward(expected_again.data(), keys, first, rows, keys, log_sum.data(),
                                     dots.data(), expected_d.data());
    ExpectNear("again", again, expected_again, 1e-6);
    ExpectNear("again", again, p, 4e-6);
    ExpectNear("d", d, expected_d, 1e-6);
  }
}

BOOST_AUTO_TEST_CASE(log_softmax_and_its_gradient_agree_with_their_twin) {
  for (const size_t count : {1u, 2u, 16u, 67u, 49152u}) {
    for (const float range : {0.0f, 1.0f, 40.0f, 300.0f}) {
      auto logits = RandomValues(count, count, range), expected = logits;
      const size_t target = count / 2;
      const double log = LogSoftmaxAt(logits.data(), count, target);
      const double expected_log = reference::LogSoftmaxAt(expected.data(), count, target);
      BOOST_TEST(std::fabs(log - expected_log) < 1e-6 * (1 + std::fabs(expected_log)));
      ExpectNear("logits", logits, expected, 1e-6);
    }
  }
}

BOOST_AUTO_TEST_CASE(kl_and_its_gradient_agree_with_their_twin) {
  for (const size_t count : {1u, 16u, 67u, 49152u}) {
    for (const float range : {0.001f, 1.0f, 10.0f}) {
      const auto base = RandomValues(count, 1, 5);
      auto logits = base;
      for (size_t i = 0; i < count; ++i) logits[i] += range * Uniform(2, i);
      auto expected = logits;
      const double kl = KlFromBase(base.data(), logits.data(), count);
      const double expected_kl = reference::KlFromBase(base.data(), expected.data(), count);
      BOOST_TEST(std::fabs(kl - expected_kl) < 1e-6 * (0.1 + expected_kl));
      ExpectNear("logits", logits, expected, 1e-6);
    }
  }
}

BOOST_AUTO_TEST_CASE(kl_of_the_others_and_its_gradient_agree_with_their_twin_whatever_the_target) {
  for (const size_t count : {2u, 16u, 67u, 49152u}) {
    for (const size_t target : {size_t{0}, count / 2, count - 1}) {
      auto base = RandomValues(count, 1, 5);
      auto logits = base;
      for (size_t i = 0; i < count; ++i) logits[i] += 10 * Uniform(2, i);
      base[target] += 20;  // nearly all of the base model's share
      auto expected_base = base, expected = logits;
      const auto given = logits;
      const double kl = KlOfOthers(base.data(), logits.data(), count, target);
      const double expected_kl =
          reference::KlOfOthers(expected_base.data(), expected.data(), count, target);
      BOOST_TEST(std::fabs(kl - expected_kl) < 1e-6 * (0.1 + expected_kl));
      ExpectNear("base logits", base, expected_base, 1e-6);
      BOOST_TEST(logits == given, "logits stay");
    }
  }
}

BOOST_AUTO_TEST_CASE(kl_of_equal_rows_is_exactly_zero_with_an_exactly_zero_gradient) {
  const auto base = RandomValues(49152, 1, 20);
  auto logits = base;
  BOOST_TEST(KlFromBase(base.data(), logits.data(), logits.size()) == 0.0);
  BOOST_TEST(Worst(logits, std::vector<float>(logits.size())) == 0.0);
}

BOOST_AUTO_TEST_CASE(a_row_that_is_not_finite_gives_a_loss_that_is_not_finite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {0u, 17u, 66u}) {
      auto logits = RandomValues(67, 1);
      logits[at] = bad;
      auto more = logits;
      BOOST_TEST(!std::isfinite(LogSoftmaxAt(logits.data(), 67, 5)));
      const auto base = RandomValues(67, 2);
      BOOST_TEST(!std::isfinite(KlFromBase(base.data(), more.data(), 67)));
      BOOST_TEST(!AllFinite(more.data(), 67));
    }
  }
}

BOOST_AUTO_TEST_CASE(sums_agree_with_plain_loops) {
  for (const size_t count : kWidths) {
    const auto a = RandomValues(count, 1);
    const auto b = RandomValues(count, 2);
    double dot = 0, squares = 0;
    for (size_t i = 0; i < count; ++i) {
      dot += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      squares += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    }
    BOOST_TEST(std::fabs(static_cast<double>(Dot(a.data(), b.data(), count)) - dot) < 1e-5);
    BOOST_TEST(std::fabs(SumOfSquares(a.data(), count) - squares) < 1e-5);
    BOOST_TEST(AllFinite(a.data(), count));
    auto y = b;
    Add(a.data(), count, y.data());
    std::vector<float> z(count);
    Scale(a.data(), -2, count, z.data());
    for (size_t i = 0; i < count; ++i) {
      BOOST_TEST(y[i] == a[i] + b[i]);
      BOOST_TEST(z[i] == -2 * a[i]);
    }
  }
}

// Attention of one head by the textbook formula in double.
std::vector<double> PlainAttention(const HeadView& head) {
  const size_t d = head.head_dim;
  const auto rotated = [&](const float* x, size_t row) {
    std::vector<double> y(d);
    for (size_t i = 0; i < d / 2; ++i) {
      const auto c = static_cast<double>(head.cosine[row * d / 2 + i]);
      const auto s = static_cast<double>(head.sine[row * d / 2 + i]);
      const auto a = static_cast<double>(x[row * head.stride + 2 * i]);
      const auto b = static_cast<double>(x[row * head.stride + 2 * i + 1]);
      y[2 * i] = a * c - b * s;
      y[2 * i + 1] = a * s + b * c;
    }
    return y;
  };
  std::vector<double> output(head.length * d);
  for (size_t t = 0; t < head.length; ++t) {
    const auto q = rotated(head.q, t);
    std::vector<double> p;
    double total = 0;
    for (size_t s = 0; s <= t; ++s) {
      const auto k = rotated(head.k, s);
      double score = 0;
      for (size_t i = 0; i < d; ++i) score += q[i] * k[i];
      p.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
      total += p.back();
    }
    for (size_t s = 0; s <= t; ++s) {
      for (size_t i = 0; i < d; ++i) {
        output[t * d + i] += p[s] / total * static_cast<double>(head.v[s * head.stride + i]);
      }
    }
  }
  return output;
}

BOOST_AUTO_TEST_CASE(attention_agrees_with_the_textbook_and_its_gradient_with_differences) {
  for (const size_t length : {1u, 5u, 33u, 70u}) {
    const size_t d = 8, stride = 29;
    auto qkv = RandomValues(length * stride, length, 2);
    std::vector<float> cosine(length * d / 2), sine(length * d / 2);
    for (size_t i = 0; i < cosine.size(); ++i) {
      cosine[i] = std::cos(0.1f * static_cast<float>(i));
      sine[i] = std::sin(0.1f * static_cast<float>(i));
    }
    const HeadView head{
        length, d, stride, qkv.data(), qkv.data() + 9, qkv.data() + 18, cosine.data(), sine.data()};
    std::vector<float> scratch(AttentionScratch(length, d), std::nanf(""));
    std::vector<float> output(length * d), log_sum(length);
    AttentionForward(head, {0, length}, scratch.data(), output.data(), d, log_sum.data());
    const auto expected = PlainAttention(head);
    const double error = testing::RelativeL2(output, expected);
    BOOST_TEST_MESSAGE("attention over " << length << " rows: relative L2 " << error);
    BOOST_TEST(error < 1e-6);

    const auto d_output = RandomValues(length * d, 9);
    const auto value = [&] {
      const auto out = PlainAttention(head);
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(d_output[i]);
      return sum;
    };
    std::vector<float> gradient(3 * length * d);
    AttentionBackward(head, {0, length}, output.data(), d_output.data(), d, log_sum.data(),
                      scratch.data(), gradient.data(), d, gradient.data() + length * d,
                      gradient.data() + 2 * length * d, d);
    std::vector<double> differences;
    for (const size_t offset : {0u, 9u, 18u}) {
      for (size_t t = 0; t < length; ++t) {
        for (size_t i = 0; i < d; ++i) {
          float& x = qkv[t * stride + offset + i];
          const float before = x;
          x = before + 0x1p-10f;
          const double above = value();
          x = before - 0x1p-10f;
          differences.push_back((above - value()) * 0x1p9);
          x = before;
        }
      }
    }
    const double gradient_error = testing::RelativeL2(gradient, differences);
    BOOST_TEST_MESSAGE("its gradient: relative L2 " << gradient_error);
    BOOST_TEST(gradient_error < 1e-5);
  }
}

BOOST_AUTO_TEST_CASE(attention_in_several_calls_has_the_bytes_of_one_call) {
  const size_t length = 5 * kQueryBlock + 7, d = 8, stride = 3 * d;
  const auto qkv = RandomValues(length * stride, length, 2);
  const auto d_output = RandomValues(length * d, 9);
  const std::vector<float> norm = RandomValues(d, 4);
  std::vector<float> cosine(length * d / 2), sine(length * d / 2);
  for (size_t i = 0; i < cosine.size(); ++i) {
    cosine[i] = std::cos(0.1f * static_cast<float>(i));
    sine[i] = std::sin(0.1f * static_cast<float>(i));
  }
  for (const bool normed : {false, true}) {
    HeadView head{length,        d,          stride, qkv.data(), qkv.data() + d, qkv.data() + 2 * d,
                  cosine.data(), sine.data()};
    if (normed) head.q_norm = head.k_norm = norm.data();
    // Of both passes, one after the other, with `at_once` queries a call.
    const auto numbers = [&](size_t at_once) {
      std::vector<float> scratch(AttentionScratch(length, d), std::nanf(""));
      std::vector<float> output(length * d), log_sum(length), gradient(3 * length * d);
      for (size_t begin = 0; begin < length; begin += at_once) {
        AttentionForward(head, {begin, std::min(begin + at_once, length)}, scratch.data(),
                         output.data(), d, log_sum.data());
      }
      for (size_t begin = 0; begin < length; begin += at_once) {
        AttentionBackward(head, {begin, std::min(begin + at_once, length)}, output.data(),
                          d_output.data(), d, log_sum.data(), scratch.data(), gradient.data(), d,
                          gradient.data() + length * d, gradient.data() + 2 * length * d, d);
      }
      gradient.insert(gradient.end(), output.begin(), output.end());
      return gradient;
    };
    const std::vector<float> one = numbers(length);
    BOOST_TEST(AllFinite(one.data(), one.size()));
    for (const size_t at_once : {kQueryBlock, 2 * kQueryBlock, 4 * kQueryBlock}) {
      const std::vector<float> several = numbers(at_once);
      BOOST_TEST(std::memcmp(one.data(), several.data(), one.size() * sizeof(float)) == 0);
    }
  }
}

}  // namespace
}  // namespace nudge
