// labels: unit
// The kernels of each instruction path give the same bits: the source is compiled here once for
// each, without the dispatch.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "stages/model/trainer/functions.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/part_times.h"
#include "tests/trainer_helpers.h"

#define NUDGE_ONE_PATH

namespace path_scalar {
using namespace nudge;
}
namespace path_avx2 {
using namespace nudge;
}
namespace path_avx512 {
using namespace nudge;
}

#define nudge path_scalar
#include "stages/model/trainer/kernels.cpp"
#undef nudge
#undef NUDGE_INLINE
#undef NUDGE_CLONES
#pragma GCC push_options
#pragma GCC target("avx2")
#define nudge path_avx2
#include "stages/model/trainer/kernels.cpp"
#undef nudge
#pragma GCC pop_options
#undef NUDGE_INLINE
#undef NUDGE_CLONES
#pragma GCC push_options
#pragma GCC target("avx512f")
#define nudge path_avx512
#include "stages/model/trainer/kernels.cpp"
#undef nudge
#pragma GCC pop_options

using namespace nudge;

namespace {

// One path's functions; members of the same name and type.
struct Path {
  decltype(&RmsNorm) rms_norm;
  decltype(&RmsNormBackward) rms_norm_backward;
  decltype(&RotatePairs) rotate_pairs;
  decltype(&RotateHalves) rotate_halves;
  decltype(&SwiGlu) swiglu;
  decltype(&SwiGluBackward) swiglu_backward;
  decltype(&CausalSoftmax) softmax;
  decltype(&CausalSoftmaxBackward) softmax_backward;
  decltype(&Dot) dot;
  decltype(&LogSoftmaxAt) log_softmax;
  decltype(&KlFromBase) kl;
  decltype(&KlOfOthers) kl_of_others;
  decltype(&UpdateAdamW) adamw;
  decltype(&SumOfSquares) squares;
};

#define NUDGE_PATH(space)                                                                          \
  Path {                                                                                           \
    space::RmsNorm, space::RmsNormBackward, space::RotatePairs, space::RotateHalves,               \
        space::SwiGlu, space::SwiGluBackward, space::CausalSoftmax, space::CausalSoftmaxBackward,  \
        space::Dot, space::LogSoftmaxAt, space::KlFromBase, space::KlOfOthers, space::UpdateAdamW, \
        space::SumOfSquares                                                                        \
  }

std::vector<float> Random(size_t count, uint64_t seed, float width = 2) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = width * testing::Uniform(seed, i);
  return values;
}

void Append(std::vector<uint64_t>& bits, double value) {
  uint64_t number;
  std::memcpy(&number, &value, sizeof number);
  bits.push_back(number);
}
void Append(std::vector<uint64_t>& bits, const std::vector<float>& values) {
  for (const float value : values) {
    uint32_t number;
    std::memcpy(&number, &value, sizeof number);
    bits.push_back(number);
  }
}

// The bits of everything that the path computes on rows of `width`.
std::vector<uint64_t> Bits(const Path& path, size_t width) {
  constexpr size_t kRows = 3;
  std::vector<uint64_t> bits;
  const auto x = Random(kRows * width, 1);
  const auto dy = Random(kRows * width, 2);
  const auto weight = Random(width, 3);
  std::vector<float> y(kRows * width), z = Random(kRows * width, 4);
  path.rms_norm(x.data(), weight.data(), kRows, width, 1e-5f, y.data());
  path.rms_norm_backward(x.data(), weight.data(), dy.data(), kRows, width, 1e-5f, z.data());
  Append(bits, y);
  Append(bits, z);
  const size_t even = width / 2 * 2;
  const auto cosine = Random(kRows * width, 5, 1);
  const auto sine = Random(kRows * width, 6, 1);
  for (const auto rotate : {path.rotate_pairs, path.rotate_halves}) {
    for (const Rotation rotation : {Rotation::kForward, Rotation::kBackward}) {
      rotate(rotation, x.data(), width, kRows, even, cosine.data(), sine.data(), 0.3f, y.data(),
             width);
      Append(bits, y);
    }
  }
  path.swiglu(x.data(), dy.data(), width, kRows, width, y.data(), width);
  Append(bits, y);
  path.swiglu_backward(x.data(), dy.data(), width, z.data(), width, kRows, width, y.data(),
                       z.data(), width);
  Append(bits, y);
  Append(bits, z);
  if (width >= kRows) {
    auto scores = x;
    std::vector<float> log_sum(kRows);
    path.softmax(scores.data(), width, width - kRows, kRows, width, log_sum.data());
    Append(bits, scores);
    Append(bits, log_sum);
    auto again = x;
    auto d = dy;
    path.softmax_backward(again.data(), width, width - kRows, kRows, width, log_sum.data(),
                          weight.data(), d.data());
    Append(bits, again);
    Append(bits, d);
  }
  Append(bits, static_cast<double>(path.dot(x.data(), dy.data(), x.size())));
  auto logits = Random(width, 7, 20);
  Append(bits, path.log_softmax(logits.data(), width, width / 2));
  Append(bits, logits);
  const auto base = Random(width, 8, 20);
  logits = Random(width, 7, 20);
  Append(bits, path.kl(base.data(), logits.data(), width));
  Append(bits, logits);
  auto others = base;
  Append(bits, path.kl_of_others(others.data(), logits.data(), width, width / 3));
  Append(bits, others);
  auto first = Random(width, 9), second = Random(width, 10), values = Random(width, 11);
  for (float& value : second) value = std::fabs(value);
  path.adamw({0.5f, 0.9f, 0.999f, 1e-3f, 1.5f, 1e-8f, 0.99f}, weight.data(), width, first.data(),
             second.data(), values.data());
  Append(bits, first);
  Append(bits, second);
  Append(bits, values);
  Append(bits, path.squares(x.data(), x.size()));
  return bits;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_instruction_path_gives_the_bits_of_the_scalar_one) {
  struct Named {
    const char* name;
    bool here;
    Path path;
  };
  const Named paths[] = {
      {"avx2", __builtin_cpu_supports("avx2") != 0, NUDGE_PATH(path_avx2)},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0, NUDGE_PATH(path_avx512)},
      {"the one that is chosen", true, NUDGE_PATH(nudge)},
  };
  for (const size_t width : {1u, 7u, 8u, 15u, 16u, 17u, 31u, 32u, 47u, 64u, 100u, 576u, 1000u}) {
    const std::vector<uint64_t> expected = Bits(NUDGE_PATH(path_scalar), width);
    for (const Named& named : paths) {
      if (!named.here) {
        BOOST_TEST_MESSAGE(named.name << ": this processor does not have it");
        continue;
      }
      BOOST_TEST((Bits(named.path, width) == expected), named.name << ", width " << width);
    }
  }
}
