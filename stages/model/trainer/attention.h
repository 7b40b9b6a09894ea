// Causal attention of one head over one sequence, forward and backward.
//
// Queries go in blocks of kQueryBlock rows against the keys before them, so the score matrix is
// never whole in memory; its softmax is computed again in the backward pass from the stored
// log-sums (Dao et al. 2022). A head's gradient for keys and values is written apart and summed by
// the caller: heads that share keys do not wait for each other.
//
// A long sequence takes several calls, each for some rows of queries: all of them one after the
// other, from the first row to the last, with the same scratch. So no call is long, and the bits
// are those of one call. Pure functions otherwise, any thread.
#pragma once

#include <cstddef>

#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/kernels.h"

namespace nudge {

inline constexpr size_t kQueryBlock = 32;

// One head's view of a sequence. q, k and v are columns of one matrix of `stride`, before the norm
// of heads and rotation.
struct HeadView {
  size_t length;  // rows of the sequence
  size_t head_dim;
  size_t stride;  // of q, k, v
  const float* q;
  const float* k;
  const float* v;
  const float* cosine;  // [length, head_dim / 2], positions from 0
  const float* sine;
  RotaryPairs pairs = RotaryPairs::kAdjacent;
  const float* q_norm = nullptr;  // weight [head_dim] of an RMS norm of each q; null: no norm
  const float* k_norm = nullptr;  // of each k
  float norm_epsilon = 0;
  MultiplyFunction multiply = Multiply;
};

// Queries of one call; `begin` is a multiple of kQueryBlock, and so is an `end` before the last.
struct QueryRows {
  size_t begin;
  size_t end;
};

// Floats of scratch that either pass needs for `length` rows.
size_t AttentionScratch(size_t length, size_t head_dim);

// Writes output [length, head_dim] (stride output_stride) and log_sum [length] at these rows.
void AttentionForward(const HeadView& head, QueryRows queries, float* scratch, float* output,
                      size_t output_stride, float* log_sum);

// The gradient of AttentionForward for d_output (of output's stride). Writes d_q [length, head_dim]
// (stride d_q_stride), d_k and d_v (stride d_key_stride), all before norm and rotation; they are
// complete after the last call.
void AttentionBackward(const HeadView& head, QueryRows queries, const float* output,
                       const float* d_output, size_t output_stride, const float* log_sum,
                       float* scratch, float* d_q, size_t d_q_stride, float* d_k, float* d_v,
                       size_t d_key_stride);

}  // namespace nudge
