#include "stages/model/trainer/attention.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/part_times.h"

namespace nudge {

namespace {

constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

float ScoreScale(size_t head_dim) {
  return 1.0f / std::sqrt(static_cast<float>(head_dim));
}

// Parts of the scratch memory, one after the other.
struct Scratch {
  float* q;       // [length, head_dim], normed, rotated and scaled
  float* k;       // [length, head_dim], normed and rotated
  float* d_k;     // [length, head_dim]
  float* scores;  // [kQueryBlock, length]
  float* d_scores;

  Scratch(float* memory, size_t length, size_t head_dim)
      : q(memory),
        k(q + length * head_dim),
        d_k(k + length * head_dim),
        scores(d_k + length * head_dim),
        d_scores(scores + kQueryBlock * length) {}
};

void Rotate(const HeadView& head, Rotation rotation, const float* x, size_t x_stride, float scale,
            float* y, size_t y_stride) {
  const auto rotate = head.pairs == RotaryPairs::kAdjacent ? RotatePairs : RotateHalves;
  rotate(rotation, x, x_stride, head.length, head.head_dim, head.cosine, head.sine, scale, y,
         y_stride);
}

// y = scale * rotate(norm(x)), dense [length, head_dim], for the columns x of q or k.
void Position(const HeadView& head, const float* x, const float* norm, float scale, float* y) {
  const size_t d = head.head_dim;
  size_t stride = head.stride;
  if (norm != nullptr) {
    for (size_t row = 0; row < head.length; ++row) {
      RmsNorm(x + row * stride, norm, 1, d, head.norm_epsilon, y + row * d);
    }
    x = y;
    stride = d;
  }
  Rotate(head, Rotation::kForward, x, stride, scale, y, d);
}

// The gradient of Position at x for dy; `memory` [length, head_dim] may be dy, dx may be too.
void PositionBackward(const HeadView& head, const float* x, const float* norm, float scale,
                      const float* dy, size_t dy_stride, float* memory, float* dx,
                      size_t dx_stride) {
  const size_t d = head.head_dim;
  if (norm == nullptr) {
    Rotate(head, Rotation::kBackward, dy, dy_stride, scale, dx, dx_stride);
    return;
  }
  Rotate(head, Rotation::kBackward, dy, dy_stride, scale, memory, d);
  for (size_t row = 0; row < head.length; ++row) {
    std::fill_n(dx + row * dx_stride, d, 0.0f);
    RmsNormBackward(x + row * head.stride, norm, memory + row * d, 1, d, head.norm_epsilon,
                    dx + row * dx_stride);
  }
}

void PositionQueriesAndKeys(const HeadView& head, const Scratch& scratch) {
  Position(head, head.q, head.q_norm, ScoreScale(head.head_dim), scratch.q);
  Position(head, head.k, head.k_norm, 1, scratch.k);
}

}  // namespace

size_t AttentionScratch(size_t length, size_t head_dim) {
  return length * (3 * head_dim + 2 * kQueryBlock);
}

void AttentionForward(const HeadView& head, QueryRows queries, float* memory, float* output,
                      size_t output_stride, float* log_sum) {
  const PartTimer timer(StepPart::kAttention);
  const size_t d = head.head_dim;
  const Scratch scratch(memory, head.length, d);
  if (queries.begin == 0) PositionQueriesAndKeys(head, scratch);
  for (size_t first = queries.begin; first < queries.end; first += kQueryBlock) {
    const size_t rows = std::min(kQueryBlock, queries.end - first);
    const size_t keys = first + rows;
    head.multiply(kNo, kYes, rows, keys, d, 1, scratch.q + first * d, d, scratch.k, d, 0,
                  scratch.scores, keys);
    CausalSoftmax(scratch.scores, keys, first, rows, keys, log_sum + first);
    head.multiply(kNo, kNo, rows, d, keys, 1, scratch.scores, keys, head.v, head.stride, 0,
                  output + first * output_stride, output_stride);
  }
}

void AttentionBackward(const HeadView& head, QueryRows queries, const float* output,
                       const float* d_output, size_t output_stride, const float* log_sum,
                       float* memory, float* d_q, size_t d_q_stride, float* d_k, float* d_v,
                       size_t d_key_stride) {
  const PartTimer timer(StepPart::kAttention);
  const size_t d = head.head_dim;
  const Scratch scratch(memory, head.length, d);
  if (queries.begin == 0) {
    PositionQueriesAndKeys(head, scratch);
    std::fill(scratch.d_k, scratch.d_k + head.length * d, 0.0f);
    for (size_t row = 0; row < head.length; ++row) {
      std::fill(d_v + row * d_key_stride, d_v + row * d_key_stride + d, 0.0f);
    }
  }
  for (size_t first = queries.begin; first < queries.end; first += kQueryBlock) {
    const size_t rows = std::min(kQueryBlock, queries.end - first);
    const size_t keys = first + rows;
    const float* d_out = d_output + first * output_stride;
    std::array<float, kQueryBlock> dots{};
    for (size_t row = 0; row < rows; ++row) {
      dots[row] = Dot(output + (first + row) * output_stride, d_out + row * output_stride, d);
    }
    head.multiply(kNo, kYes, rows, keys, d, 1, scratch.q + first * d, d, scratch.k, d, 0,
                  scratch.scores, keys);
    head.multiply(kNo, kYes, rows, keys, d, 1, d_out, output_stride, head.v, head.stride, 0,
                  scratch.d_scores, keys);
    CausalSoftmaxBackward(scratch.scores, keys, first, rows, keys, log_sum + first, dots.data(),
                          scratch.d_scores);
    head.multiply(kYes, kNo, keys, d, rows, 1, scratch.scores, keys, d_out, output_stride, 1, d_v,
                  d_key_stride);
    head.multiply(kYes, kNo, keys, d, rows, 1, scratch.d_scores, keys, scratch.q + first * d, d, 1,
                  scratch.d_k, d);
    head.multiply(kNo, kNo, rows, d, keys, 1, scratch.d_scores, keys, scratch.k, d, 0,
                  d_q + first * d_q_stride, d_q_stride);
  }
  if (queries.end < head.length) return;
  PositionBackward(head, head.q, head.q_norm, ScoreScale(d), d_q, d_q_stride, scratch.q, d_q,
                   d_q_stride);
  PositionBackward(head, head.k, head.k_norm, 1, scratch.d_k, d, scratch.d_k, d_k, d_key_stride);
}

}  // namespace nudge
