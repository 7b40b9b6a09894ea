// The obvious twins of kernels.h: plain loops in double precision, one formula a function. The
// tests compare each kernel with its twin; nothing else calls them.
#pragma once

#include "stages/model/trainer/kernels.h"

namespace nudge::reference {

void RmsNorm(const float* x, const float* weight, size_t rows, size_t width, float epsilon,
             float* y);
void RmsNormBackward(const float* x, const float* weight, const float* dy, size_t rows,
                     size_t width, float epsilon, float* dx);
void RotatePairs(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                 const float* cosine, const float* sine, float scale, float* y, size_t y_stride);
void RotateHalves(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                  const float* cosine, const float* sine, float scale, float* y, size_t y_stride);
void SwiGlu(const float* gate, const float* up, size_t stride, size_t rows, size_t columns,
            float* y, size_t y_stride);
void SwiGluBackward(const float* gate, const float* up, size_t stride, const float* dy,
                    size_t dy_stride, size_t rows, size_t columns, float* d_gate, float* d_up,
                    size_t d_stride);
void CausalSoftmax(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                   float* log_sum);
void CausalSoftmaxBackward(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                           const float* log_sum, const float* dots, float* d_probability);
double LogSoftmaxAt(float* logits, size_t count, size_t target);
double KlFromBase(const float* base_logits, float* logits, size_t count);
double KlOfOthers(float* base_logits, float* logits, size_t count, size_t target);

}  // namespace nudge::reference
