#include "stages/model/trainer/kernels_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace nudge::reference {

namespace {

double Wide(float value) {
  return static_cast<double>(value);
}
float Narrow(double value) {
  return static_cast<float>(value);
}

double InverseRms(const float* x, size_t width, float epsilon) {
  double sum = 0;
  for (size_t i = 0; i < width; ++i) sum += Wide(x[i]) * Wide(x[i]);
  return 1 / std::sqrt(sum / static_cast<double>(width) + Wide(epsilon));
}

double Sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double LogSum(const float* x, size_t count) {
  const double largest = Wide(*std::max_element(x, x + count));
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(Wide(x[i]) - largest);
  return largest + std::log(sum);
}

}  // namespace

void RmsNorm(const float* x, const float* weight, size_t rows, size_t width, float epsilon,
             float* y) {
  for (size_t r = 0; r < rows; ++r) {
    const double inverse = InverseRms(x + r * width, width, epsilon);
    for (size_t i = 0; i < width; ++i) {
      y[r * width + i] = Narrow(Wide(x[r * width + i]) * inverse * Wide(weight[i]));
    }
  }
}

void RmsNormBackward(const float* x, const float* weight, const float* dy, size_t rows,
                     size_t width, float epsilon, float* dx) {
  for (size_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const double inverse = InverseRms(row, width, epsilon);
    double dot = 0;
    for (size_t i = 0; i < width; ++i)
      dot += Wide(dy[r * width + i]) * Wide(weight[i]) * Wide(row[i]);
    const double mean = dot * inverse * inverse / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i) {
      const double gradient = Wide(dy[r * width + i]) * Wide(weight[i]) - Wide(row[i]) * mean;
      dx[r * width + i] = Narrow(Wide(dx[r * width + i]) + inverse * gradient);
    }
  }
}

void RotatePairs(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                 const float* cosine, const float* sine, float scale, float* y, size_t y_stride) {
  const double sign = rotation == Rotation::kForward ? 1 : -1;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < head_dim / 2; ++i) {
      const double c = Wide(cosine[r * (head_dim / 2) + i]);
      const double s = sign * Wide(sine[r * (head_dim / 2) + i]);
      const double a = Wide(x[r * x_stride + 2 * i]);
      const double b = Wide(x[r * x_stride + 2 * i + 1]);
      y[r * y_stride + 2 * i] = Narrow(Wide(scale) * (a * c - b * s));
      y[r * y_stride + 2 * i + 1] = Narrow(Wide(scale) * (a * s + b * c));
    }
  }
}

void RotateHalves(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                  const float* cosine, const float* sine, float scale, float* y, size_t y_stride) {
  const double sign = rotation == Rotation::kForward ? 1 : -1;
  const size_t half = head_dim / 2;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < half; ++i) {
      const double c = Wide(cosine[r * half + i]);
      const double s = sign * Wide(sine[r * half + i]);
      const double a = Wide(x[r * x_stride + i]);
      const double b = Wide(x[r * x_stride + half + i]);
      y[r * y_stride + i] = Narrow(Wide(scale) * (a * c - b * s));
      y[r * y_stride + half + i] = Narrow(Wide(scale) * (a * s + b * c));
    }
  }
}

void SwiGlu(const float* gate, const float* up, size_t stride, size_t rows, size_t columns,
            float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < columns; ++i) {
      const double g = Wide(gate[r * stride + i]);
      y[r * y_stride + i] = Narrow(g * Sigmoid(g) * Wide(up[r * stride + i]));
    }
  }
}

void SwiGluBackward(const float* gate, const float* up, size_t stride, const float* dy,
                    size_t dy_stride, size_t rows, size_t columns, float* d_gate, float* d_up,
                    size_t d_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < columns; ++i) {
      const double g = Wide(gate[r * stride + i]);
      const double u = Wide(up[r * stride + i]);
      const double d = Wide(dy[r * dy_stride + i]);
      const double s = Sigmoid(g);
      d_gate[r * d_stride + i] = Narrow(d * u * s * (1 + g * (1 - s)));
      d_up[r * d_stride + i] = Narrow(d * g * s);
    }
  }
}

void CausalSoftmax(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                   float* log_sum) {
  for (size_t r = 0; r < rows; ++r) {
    float* row = scores + r * stride;
    const double sum = LogSum(row, first + r + 1);
    for (size_t j = 0; j < keys; ++j) {
      row[j] = j <= first + r ? Narrow(std::exp(Wide(row[j]) - sum)) : 0;
    }
    log_sum[r] = Narrow(sum);
  }
}

void CausalSoftmaxBackward(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                           const float* log_sum, const float* dots, float* d_probability) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < keys; ++j) {
      float& p = scores[r * stride + j];
      float& d = d_probability[r * stride + j];
      p = j <= first + r ? Narrow(std::exp(Wide(p) - Wide(log_sum[r]))) : 0;
      d = j <= first + r ? Narrow(Wide(p) * (Wide(d) - Wide(dots[r]))) : 0;
    }
  }
}

double LogSoftmaxAt(float* logits, size_t count, size_t target) {
  const double sum = LogSum(logits, count);
  const double at_target = Wide(logits[target]) - sum;
  for (size_t i = 0; i < count; ++i) {
    logits[i] = Narrow(std::exp(Wide(logits[i]) - sum) - (i == target ? 1 : 0));
  }
  return at_target;
}

double KlFromBase(const float* base_logits, float* logits, size_t count) {
  const double base_sum = LogSum(base_logits, count);
  const double sum = LogSum(logits, count);
  double kl = 0;
  for (size_t i = 0; i < count; ++i) {
    const double base_log = Wide(base_logits[i]) - base_sum;
    const double log = Wide(logits[i]) - sum;
    kl += std::exp(base_log) * (base_log - log);
    logits[i] = Narrow(std::exp(log) - std::exp(base_log));
  }
  return kl;
}

double KlOfOthers(float* base_logits, float* logits, size_t count, size_t target) {
  std::vector<float> base;
  std::vector<float> others;
  for (size_t i = 0; i < count; ++i) {
    if (i == target) continue;
    base.push_back(base_logits[i]);
    others.push_back(logits[i]);
  }
  const double kl = KlFromBase(base.data(), others.data(), base.size());
  for (size_t i = 0, from = 0; i < count; ++i) base_logits[i] = i == target ? 0 : others[from++];
  return kl;
}

}  // namespace nudge::reference
