#include "stages/model/trainer/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "stages/model/trainer/functions.h"
#include "stages/model/trainer/part_times.h"

// Sixteen lanes as one value. The compiler turns it into one, two or four registers, so each clone
// of a function below computes the same bits.
#pragma GCC diagnostic ignored "-Wpsabi"
#define NUDGE_INLINE static inline __attribute__((always_inline))
#if defined(__SANITIZE_THREAD__) || defined(NUDGE_ONE_PATH)
#define NUDGE_CLONES  // what chooses a clone runs before the sanitizer is there, and calls it
#else
#define NUDGE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

namespace nudge {

namespace {

constexpr size_t kLanes = 16;
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
typedef double WideHalf __attribute__((vector_size(64)));
typedef float Half __attribute__((vector_size(32)));

NUDGE_INLINE Vec Load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

NUDGE_INLINE void Store(const Vec& v, float* p) {
  std::memcpy(p, &v, sizeof v);
}

NUDGE_INLINE Vec Broadcast(float x) {
  return x - Vec{};
}

NUDGE_INLINE Vec LoadPart(const float* p, size_t count, float fill) {
  Vec v = Broadcast(fill);
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}

NUDGE_INLINE void StorePart(const Vec& v, size_t count, float* p) {
  std::memcpy(p, &v, count * sizeof(float));
}

NUDGE_INLINE float SumLanes(const Vec& v) {
  float sum = 0;
  for (size_t i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

NUDGE_INLINE float MaxLanes(const Vec& v) {
  float largest = v[0];
  for (size_t i = 1; i < kLanes; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

constexpr Vec kMinusPlus = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};

// b a d c ... of a b c d ...
NUDGE_INLINE Vec SwapPairs(const Vec& v) {
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}

// a a b b ... of the eight values at p.
NUDGE_INLINE Vec TwiceEach(const float* p) {
  Half v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
}

// Sixteen lanes of doubles, for sums over a vocabulary.
struct WideSum {
  WideHalf low{};
  WideHalf high{};
};

NUDGE_INLINE void AddTo(WideSum& sum, const Vec& v) {
  Half low;
  Half high;
  std::memcpy(&low, &v, sizeof low);
  std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
  sum.low += __builtin_convertvector(low, WideHalf);
  sum.high += __builtin_convertvector(high, WideHalf);
}

NUDGE_INLINE double Total(const WideSum& sum) {
  const WideHalf both = sum.low + sum.high;
  double total = 0;
  for (size_t i = 0; i < kLanes / 2; ++i) total += both[i];
  return total;
}

// e^x by 2^n e^r with |r| <= ln(2) / 2 and the Taylor polynomial of degree 7; relative error below
// 2e-7. Arguments are held in [-87, 88], so that the result is a normal number; NaN stays NaN.
NUDGE_INLINE Vec Exp(const Vec& argument) {
  const Vec low = Broadcast(-87.0f);
  const Vec high = Broadcast(88.0f);
  Vec x = argument < low ? low : argument;
  x = x > high ? high : x;
  const Vec magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504088896341f + magic;
  const Vec n = shifted - magic;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = r * (1.0f / 5040) + (1.0f / 720);
  p = p * r + (1.0f / 120);
  p = p * r + (1.0f / 24);
  p = p * r + (1.0f / 6);
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  IntVec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

NUDGE_INLINE Vec Sigmoid(const Vec& x) {
  return 1.0f / (1.0f + Exp(-x));
}

struct GatePair {
  Vec gate, up;
};

NUDGE_INLINE GatePair GateGradients(const Vec& g, const Vec& u, const Vec& d) {
  const Vec s = Sigmoid(g);
  return {d * u * s * (1.0f + g * (1.0f - s)), d * g * s};
}

NUDGE_INLINE float InverseRms(const float* x, size_t width, float epsilon) {
  Vec sum{};
  size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) sum += Load(x + i) * Load(x + i);
  if (i < width) {
    const Vec v = LoadPart(x + i, width - i, 0);
    sum += v * v;
  }
  return 1.0f / std::sqrt(SumLanes(sum) / static_cast<float>(width) + epsilon);
}

NUDGE_INLINE float Largest(const float* x, size_t count) {
  const float least = -std::numeric_limits<float>::infinity();
  Vec largest = Broadcast(0) + least;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Load(x + i);
    largest = v > largest ? v : largest;
  }
  if (i < count) {
    Vec v = Broadcast(0) + least;
    std::memcpy(&v, x + i, (count - i) * sizeof(float));
    largest = v > largest ? v : largest;
  }
  return MaxLanes(largest);
}

// Sum of e^(x - largest) over a row, its lanes in double.
NUDGE_INLINE double SumOfExponentials(const float* x, size_t count, float largest) {
  WideSum sum;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) AddTo(sum, Exp(Load(x + i) - largest));
  double total = Total(sum);
  if (i < count) {
    const Vec v = Exp(LoadPart(x + i, count - i, largest) - largest);
    for (size_t j = 0; j < count - i; ++j) total += static_cast<double>(v[j]);
  }
  return total;
}

// KL's terms and the difference of the two softmax rows, for sixteen columns.
struct KlTerms {
  float shift, base_shift;  // largest logits
  float scale, base_scale;  // 1 / sum of exponentials
  float log_ratio;          // (base_shift + log base_sum) - (shift + log sum)
};

NUDGE_INLINE Vec KlStep(const KlTerms& t, const Vec& base, const Vec& logits, Vec* difference) {
  const Vec p_base = Exp(base - t.base_shift) * t.base_scale;
  *difference = Exp(logits - t.shift) * t.scale - p_base;
  return p_base * ((base - logits) - t.log_ratio);
}

// KL(softmax(base_logits) || softmax(logits)); softmax(logits) - softmax(base_logits) goes to
// `gradient`, which may be either row.
NUDGE_INLINE double KlOfRows(const float* base_logits, const float* logits, size_t count,
                             float* gradient) {
  const float base_largest = Largest(base_logits, count);
  const float largest = Largest(logits, count);
  const double base_sum = SumOfExponentials(base_logits, count, base_largest);
  const double sum = SumOfExponentials(logits, count, largest);
  const double ratio = (static_cast<double>(base_largest) + Logarithm(base_sum)) -
                       (static_cast<double>(largest) + Logarithm(sum));
  const KlTerms terms{largest, base_largest, static_cast<float>(1 / sum),
                      static_cast<float>(1 / base_sum), static_cast<float>(ratio)};
  WideSum kl;
  Vec difference;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    AddTo(kl, KlStep(terms, Load(base_logits + i), Load(logits + i), &difference));
    Store(difference, gradient + i);
  }
  double total = Total(kl);
  if (i < count) {
    const Vec last = KlStep(terms, LoadPart(base_logits + i, count - i, base_largest),
                            LoadPart(logits + i, count - i, largest), &difference);
    StorePart(difference, count - i, gradient + i);
    for (size_t j = 0; j < count - i; ++j) total += static_cast<double>(last[j]);
  }
  return total;
}

}  // namespace

NUDGE_CLONES void RmsNorm(const float* x, const float* weight, size_t rows, size_t width,
                          float epsilon, float* y) {
  const PartTimer timer(StepPart::kRows);
  for (size_t r = 0; r < rows; ++r, x += width, y += width) {
    const float inverse = InverseRms(x, width, epsilon);
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      Store(Load(x + i) * inverse * Load(weight + i), y + i);
    }
    for (; i < width; ++i) y[i] = x[i] * inverse * weight[i];
  }
}

NUDGE_CLONES void RmsNormBackward(const float* x, const float* weight, const float* dy, size_t rows,
                                  size_t width, float epsilon, float* dx) {
  const PartTimer timer(StepPart::kRows);
  for (size_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    const float inverse = InverseRms(x, width, epsilon);
    Vec sum{};
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) sum += Load(dy + i) * Load(weight + i) * Load(x + i);
    float dot = SumLanes(sum);
    for (; i < width; ++i) dot += dy[i] * weight[i] * x[i];
    const float mean = dot * inverse * inverse / static_cast<float>(width);
    for (i = 0; i + kLanes <= width; i += kLanes) {
      const Vec gradient = Load(dy + i) * Load(weight + i) - Load(x + i) * mean;
      Store(Load(dx + i) + gradient * inverse, dx + i);
    }
    for (; i < width; ++i) dx[i] += (dy[i] * weight[i] - x[i] * mean) * inverse;
  }
}

NUDGE_CLONES void RotatePairs(Rotation rotation, const float* x, size_t x_stride, size_t rows,
                              size_t head_dim, const float* cosine, const float* sine, float scale,
                              float* y, size_t y_stride) {
  const float sign = rotation == Rotation::kForward ? scale : -scale;
  for (size_t r = 0; r < rows; ++r) {
    const float* c = cosine + r * (head_dim / 2);
    const float* s = sine + r * (head_dim / 2);
    const float* from = x + r * x_stride;
    float* to = y + r * y_stride;
    size_t i = 0;
    for (; 2 * i + kLanes <= head_dim; i += kLanes / 2) {
      const Vec pairs = Load(from + 2 * i);
      const Vec turned = SwapPairs(pairs);
      const Vec cosines = TwiceEach(c + i) * scale;
      const Vec sines = TwiceEach(s + i) * (kMinusPlus * sign);
      Store(pairs * cosines + turned * sines, to + 2 * i);
    }
    for (; i < head_dim / 2; ++i) {
      const float a = from[2 * i];
      const float b = from[2 * i + 1];
      to[2 * i] = a * (c[i] * scale) - b * (s[i] * sign);
      to[2 * i + 1] = a * (s[i] * sign) + b * (c[i] * scale);
    }
  }
}

NUDGE_CLONES void RotateHalves(Rotation rotation, const float* x, size_t x_stride, size_t rows,
                               size_t head_dim, const float* cosine, const float* sine, float scale,
                               float* y, size_t y_stride) {
  const float sign = rotation == Rotation::kForward ? scale : -scale;
  const size_t half = head_dim / 2;
  for (size_t r = 0; r < rows; ++r) {
    const float* c = cosine + r * half;
    const float* s = sine + r * half;
    const float* from = x + r * x_stride;
    float* to = y + r * y_stride;
    size_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Vec a = Load(from + i);
      const Vec b = Load(from + half + i);
      const Vec cosines = Load(c + i) * scale;
      const Vec sines = Load(s + i) * sign;
      Store(a * cosines - b * sines, to + i);
      Store(a * sines + b * cosines, to + half + i);
    }
    for (; i < half; ++i) {
      const float a = from[i];
      const float b = from[half + i];
      to[i] = a * (c[i] * scale) - b * (s[i] * sign);
      to[half + i] = a * (s[i] * sign) + b * (c[i] * scale);
    }
  }
}

NUDGE_CLONES void SwiGlu(const float* gate, const float* up, size_t stride, size_t rows,
                         size_t columns, float* y, size_t y_stride) {
  const PartTimer timer(StepPart::kRows);
  for (size_t r = 0; r < rows; ++r, gate += stride, up += stride, y += y_stride) {
    size_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) {
      const Vec g = Load(gate + i);
      Store(g * Sigmoid(g) * Load(up + i), y + i);
    }
    if (i < columns) {
      const Vec g = LoadPart(gate + i, columns - i, 0);
      StorePart(g * Sigmoid(g) * LoadPart(up + i, columns - i, 0), columns - i, y + i);
    }
  }
}

NUDGE_CLONES void SwiGluBackward(const float* gate, const float* up, size_t stride, const float* dy,
                                 size_t dy_stride, size_t rows, size_t columns, float* d_gate,
                                 float* d_up, size_t d_stride) {
  const PartTimer timer(StepPart::kRows);
  for (size_t r = 0; r < rows; ++r) {
    const float* g = gate + r * stride;
    const float* u = up + r * stride;
    const float* d = dy + r * dy_stride;
    float* to_gate = d_gate + r * d_stride;
    float* to_up = d_up + r * d_stride;
    GatePair pair;
    size_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) {
      pair = GateGradients(Load(g + i), Load(u + i), Load(d + i));
      Store(pair.gate, to_gate + i);
      Store(pair.up, to_up + i);
    }
    if (i < columns) {
      const size_t count = columns - i;
      pair = GateGradients(LoadPart(g + i, count, 0), LoadPart(u + i, count, 0),
                           LoadPart(d + i, count, 0));
      StorePart(pair.gate, count, to_gate + i);
      StorePart(pair.up, count, to_up + i);
    }
  }
}

NUDGE_CLONES void CausalSoftmax(float* scores, size_t stride, size_t first, size_t rows,
                                size_t keys, float* log_sum) {
  for (size_t r = 0; r < rows; ++r, scores += stride) {
    const size_t visible = first + r + 1;
    const float largest = Largest(scores, visible);
    Vec sum{};
    size_t i = 0;
    for (; i + kLanes <= visible; i += kLanes) {
      const Vec e = Exp(Load(scores + i) - largest);
      Store(e, scores + i);
      sum += e;
    }
    float total = SumLanes(sum);
    if (i < visible) {
      const Vec e = Exp(LoadPart(scores + i, visible - i, largest) - largest);
      StorePart(e, visible - i, scores + i);
      for (; i < visible; ++i) total += scores[i];
    }
    const float scale = 1.0f / total;
    for (i = 0; i + kLanes <= visible; i += kLanes) Store(Load(scores + i) * scale, scores + i);
    for (; i < visible; ++i) scores[i] *= scale;
    std::fill(scores + visible, scores + keys, 0.0f);
    log_sum[r] = largest + static_cast<float>(Logarithm(static_cast<double>(total)));
  }
}

NUDGE_CLONES void CausalSoftmaxBackward(float* scores, size_t stride, size_t first, size_t rows,
                                        size_t keys, const float* log_sum, const float* dots,
                                        float* d_probability) {
  for (size_t r = 0; r < rows; ++r, scores += stride, d_probability += stride) {
    const size_t visible = first + r + 1;
    size_t i = 0;
    for (; i + kLanes <= visible; i += kLanes) {
      const Vec p = Exp(Load(scores + i) - log_sum[r]);
      Store(p, scores + i);
      Store(p * (Load(d_probability + i) - dots[r]), d_probability + i);
    }
    if (i < visible) {
      const size_t count = visible - i;
      const Vec p = Exp(LoadPart(scores + i, count, 0) - log_sum[r]);
      StorePart(p, count, scores + i);
      StorePart(p * (LoadPart(d_probability + i, count, 0) - dots[r]), count, d_probability + i);
    }
    std::fill(scores + visible, scores + keys, 0.0f);
    std::fill(d_probability + visible, d_probability + keys, 0.0f);
  }
}

NUDGE_CLONES float Dot(const float* a, const float* b, size_t count) {
  Vec sum{};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += Load(a + i) * Load(b + i);
  float total = SumLanes(sum);
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

NUDGE_CLONES void Add(const float* x, size_t count, float* y) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Load(y + i) + Load(x + i), y + i);
  for (; i < count; ++i) y[i] += x[i];
}

NUDGE_CLONES void Scale(const float* x, float factor, size_t count, float* y) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Load(x + i) * factor, y + i);
  for (; i < count; ++i) y[i] = x[i] * factor;
}

NUDGE_CLONES double LogSoftmaxAt(float* logits, size_t count, size_t target) {
  const float largest = Largest(logits, count);
  const double sum = SumOfExponentials(logits, count, largest);
  const double result = static_cast<double>(logits[target] - largest) - Logarithm(sum);
  const float scale = static_cast<float>(1 / sum);
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t lanes = std::min(kLanes, count - i);
    if (lanes == kLanes) {
      Store(Exp(Load(logits + i) - largest) * scale, logits + i);
    } else {
      StorePart(Exp(LoadPart(logits + i, lanes, largest) - largest) * scale, lanes, logits + i);
    }
  }
  logits[target] -= 1.0f;
  return result;
}

NUDGE_CLONES double KlFromBase(const float* base_logits, float* logits, size_t count) {
  return KlOfRows(base_logits, logits, count, logits);
}

NUDGE_CLONES double KlOfOthers(float* base_logits, float* logits, size_t count, size_t target) {
  const float logit = logits[target];
  logits[target] = base_logits[target] = -1e30f;  // a share of 1e-38, as good as none
  const double kl = KlOfRows(base_logits, logits, count, base_logits);
  logits[target] = logit;
  base_logits[target] = 0;
  return kl;
}

// Plain loops without branches, so that the compiler turns sqrt and division into vectors.
__attribute__((optimize("O3", "no-math-errno"))) NUDGE_CLONES void UpdateAdamW(
    const AdamWUpdate& update, const float* __restrict gradient, size_t count,
    float* __restrict first, float* __restrict second, float* __restrict values) {
  const AdamWUpdate u = update;
  for (size_t i = 0; i < count; ++i) {
    const float g = gradient[i] * u.clip;
    first[i] = u.beta1 * first[i] + (1.0f - u.beta1) * g;
    second[i] = u.beta2 * second[i] + (1.0f - u.beta2) * (g * g);
    const float root = __builtin_sqrtf(second[i]) * u.second_scale;
    values[i] = values[i] * u.keep - u.rate * first[i] / (root + u.epsilon);
  }
}

NUDGE_CLONES bool AllFinite(const float* values, size_t count) {
  // x - x is 0 for a finite x and NaN otherwise.
  Vec sum{};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Load(values + i);
    sum += v - v;
  }
  float total = SumLanes(sum);
  for (; i < count; ++i) total += values[i] - values[i];
  return total == 0.0f;
}

NUDGE_CLONES double SumOfSquares(const float* values, size_t count) {
  WideSum sum;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Load(values + i);
    AddTo(sum, v * v);
  }
  double total = Total(sum);
  for (; i < count; ++i) total += static_cast<double>(values[i] * values[i]);
  return total;
}

}  // namespace nudge
