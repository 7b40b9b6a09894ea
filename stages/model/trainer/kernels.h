// The row-wise loops of a Llama block, forward and backward: everything that is no matrix product.
//
// Each has an obvious twin in kernels_reference.h. All matrices are row-major f32; a stride counts
// floats between rows. Sums run in sixteen lanes in a fixed order, with products and sums rounded
// apart: the same bits on every instruction set. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nudge {

// y = x / sqrt(mean(x^2) + epsilon) * weight, for each of `rows` dense rows of `width`
// (Zhang and Sennrich 2019).
void RmsNorm(const float* x, const float* weight, size_t rows, size_t width, float epsilon,
             float* y);

// dx += the gradient of RmsNorm at x for dy.
void RmsNormBackward(const float* x, const float* weight, const float* dy, size_t rows,
                     size_t width, float epsilon, float* dx);

// Which numbers of a head the rotary embedding turns together, with h half of head_dim.
enum class RotaryPairs : uint8_t {
  kAdjacent,  // (2 i, 2 i + 1): llama, whose GGUF interleaves the halves of each head
  kHalves,    // (i, h + i): qwen2 and qwen3, as at Hugging Face
};

// Rotary position embedding over adjacent pairs (2i, 2i + 1), as GGUF lays out q and k
// (Su et al. 2021): y = scale * rotate(x). Row p of cosine and sine, [rows, head_dim / 2], is the
// position of row p of x. kBackward rotates by the opposite angle: the transpose, hence the
// gradient.
enum class Rotation : bool { kForward, kBackward };
void RotatePairs(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                 const float* cosine, const float* sine, float scale, float* y, size_t y_stride);

// The same over the pairs (i, head_dim / 2 + i), as Hugging Face lays out q and k.
void RotateHalves(Rotation rotation, const float* x, size_t x_stride, size_t rows, size_t head_dim,
                  const float* cosine, const float* sine, float scale, float* y, size_t y_stride);

// y = silu(gate) * up, over `columns` of `rows` rows (Shazeer 2020).
void SwiGlu(const float* gate, const float* up, size_t stride, size_t rows, size_t columns,
            float* y, size_t y_stride);

// Writes d_gate and d_up (stride d_stride) for the gradient dy of SwiGlu's output.
void SwiGluBackward(const float* gate, const float* up, size_t stride, const float* dy,
                    size_t dy_stride, size_t rows, size_t columns, float* d_gate, float* d_up,
                    size_t d_stride);

// Turns row i of scores into the softmax of its first `first + i + 1` values, zeroes the rest up to
// `keys`, and writes the log of the sum of exponentials to log_sum[i].
void CausalSoftmax(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                   float* log_sum);

// Turns row i of scores into the same probabilities, given log_sum, and row i of d_probability into
// the gradient of the scores: p (dp - sum(dp * p)), where dots[i] = sum(dp * p).
void CausalSoftmaxBackward(float* scores, size_t stride, size_t first, size_t rows, size_t keys,
                           const float* log_sum, const float* dots, float* d_probability);

// Sum of a[i] * b[i].
float Dot(const float* a, const float* b, size_t count);

// y += x; y = factor * x.
void Add(const float* x, size_t count, float* y);
void Scale(const float* x, float factor, size_t count, float* y);

// Turns a row of logits into softmax(logits) - onehot(target) and returns log
// softmax(logits)[target]. Requires target < count.
double LogSoftmaxAt(float* logits, size_t count, size_t target);

// Turns a row of logits into softmax(logits) - softmax(base_logits) and returns
// KL(softmax(base_logits) || softmax(logits)) in nats. Equal rows give exactly 0.
double KlFromBase(const float* base_logits, float* logits, size_t count);

// The same among all columns but `target`, each of the two rows a softmax without it: the gradient
// replaces base_logits, with 0 at `target`, and logits stay. Requires target < count.
double KlOfOthers(float* base_logits, float* logits, size_t count, size_t target);

// One AdamW step over `count` values; see optimizer.h for the formula's source.
struct AdamWUpdate {
  float clip;  // factor on the gradient
  float beta1, beta2;
  float rate;          // learning rate / (1 - beta1^step)
  float second_scale;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  float keep;  // 1 - learning rate * weight decay
};
void UpdateAdamW(const AdamWUpdate& update, const float* gradient, size_t count, float* first,
                 float* second, float* values);

// Whether all values are finite, and the sum of their squares in double, in a fixed order.
bool AllFinite(const float* values, size_t count);
double SumOfSquares(const float* values, size_t count);

}  // namespace nudge
