// Forward and backward pass of a stack of Llama blocks with LoRA over packed sequences:
// PackedRows -> [LlamaPass] -> hidden states, and their gradient -> gradient of every A and B.
//
// Sequences lie one after the other in one batch of rows; attention sees each by itself, everything
// else is by row. Per layer the forward pass keeps x, q k v before rotation, the attention's output
// and log-sums, the middle of the block, gate and up, and A x; norms, rotation, SwiGLU and softmax
// are computed again. Where a batch has too many rows for the memory that is allowed, only x is
// kept of the first layers, and the backward pass computes such a layer once more before it goes
// through it (Chen et al. 2016): the same calls on the same numbers, hence the same bits. How many
// these are is a function of the rows and of the bound.
//
// One instance is used by one thread at a time (the parts it hands to ParallelFor may run
// anywhere); its memory is taken once, nothing is allocated by a pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "stages/model/trainer/attention.h"
#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/rotary_table.h"

namespace nudge {

struct PackedSequence {
  size_t begin;   // first row
  size_t length;  // rows
};

// Requires sequences that cover all tokens in order, and token ids inside the vocabulary.
struct PackedRows {
  std::span<const int32_t> tokens;
  std::span<const PackedSequence> sequences;

  size_t rows() const { return tokens.size(); }
};

class LlamaPass {
 public:
  // Sequences have at most min(max_tokens, context) rows, batches max_tokens, adapters max_rank.
  // Requires bytes_max to hold the largest batch with one layer kept.
  LlamaPass(std::shared_ptr<const FrozenWeights> weights, size_t max_tokens, uint32_t max_rank,
            size_t bytes_max);

  // Memory for a batch of `rows` of which the last `layers_kept` (1 or more) layers are kept.
  static size_t Bytes(const LlamaShape& shape, size_t rows, uint32_t max_rank, size_t layers_kept);
  // As many as bytes_max has room for.
  size_t LayersKept(size_t rows) const;

  // Computes Hidden() with `adapter` (null: the base model). With `keep`, Backward may follow.
  void Forward(const PackedRows& batch, const LoraWeights* adapter, bool keep,
               const ParallelFor& parallel);

  // Output of the last block before the final norm, [rows, hidden].
  const float* Hidden() const { return hidden_; }

  // The caller writes the gradient of Hidden() here, [rows, hidden], before Backward.
  float* HiddenGradient() { return work_.d_x; }

  // Writes the gradient of every value of `adapter`. Requires the same batch and adapter as the
  // Forward(keep) just before, and gradient.size() == adapter.shape.Size().
  void Backward(const PackedRows& batch, const LoraWeights& adapter, std::span<float> gradient,
                const ParallelFor& parallel);

 private:
  // What the backward pass of one layer reads. All but x lies in a slot.
  struct Kept {
    float* x;         // [rows, hidden], the block's input
    float* qkv;       // [rows, attention width]
    float* attended;  // [rows, query width]
    float* log_sum;   // [heads, rows]
    float* middle;    // [rows, hidden], after attention
    float* gate_up;   // [rows, 2 feed_forward]
    float* low;       // [rows, 7 rank]: A x of each module
  };

  // Modules that read the same input and write adjacent columns: one product.
  struct Slice {
    LoraModule module;
    size_t column;
  };
  struct Product {
    const FrozenMatrix* weight;
    std::span<const Slice> slices;
    size_t layer;
    std::span<const float> bias = {};  // [out] of weight; empty: none
  };

  // The adapter in use, with the places of its matrices.
  struct Adapter {
    const LoraWeights* weights = nullptr;
    float scale = 0;
    size_t rank = 0;
    size_t low_stride = 0;

    bool Has(LoraModule module) const;
    const float* A(size_t layer, LoraModule module) const;
    const float* B(size_t layer, LoraModule module) const;
  };

  // The arrays of a batch, one after the other.
  struct Work {
    float* inputs;  // each block's input, [rows, hidden], at a distance of input_floats
    size_t input_floats;
    float* slots;  // the rest of what is kept of a layer, at a distance of slot_floats
    size_t slot_floats;
    size_t layers_kept;  // slots: of the last layers
    float* last_x;       // [rows, hidden], output of the last block
    float* normed;       // [rows, hidden]
    float* active;       // [rows, feed_forward], SwiGLU's output
    float* d_x;          // [rows, hidden]
    float* d_normed;     // [rows, hidden]
    float* d_active;     // [rows, feed_forward]
    float* d_gate_up;    // [rows, 2 feed_forward]
    float* d_attended;   // [rows, query width]
    float* d_qkv;        // [rows, attention width]
    float* d_keys;       // [rows, query width]: each head's own gradient of its keys
    float* d_values;     // [rows, query width]
    float* d_low;        // [rows, 7 rank]
    float* turned;       // [7, rank, widest module]: gradients of B, before they are turned
    float* rounded;      // of the product at hand: its X or dY as bf16
    float* scratch;      // attention's
  };
  class Cutter;

  static Work Lay(const LlamaShape& shape, size_t rows, uint32_t max_rank, size_t layers_kept,
                  Cutter& cutter);
  static Kept SlotAt(const LlamaShape& shape, size_t rows, uint32_t max_rank, Cutter& cutter);
  size_t FirstKept() const { return shape_.layers - work_.layers_kept; }
  void UseAdapter(const LoraWeights* adapter);
  Kept KeptOf(size_t layer, bool keep) const;
  float* NextX(size_t layer, bool keep) const;

  // Rows [begin, begin + rows) of x[.., width] for bf16 products; nothing for others.
  void Round(const float* x, size_t x_stride, size_t width, size_t begin, size_t rows) const;
  uint16_t* Rounded() const;  // where they are; null where products are of other numbers
  // low = x A^T for each slice, on rows [begin, begin + rows) of x, which it rounds too.
  void Lower(const Product& product, const float* x, size_t x_stride, size_t begin, size_t rows,
             float* low) const;
  // Y = X W^T + scale low B^T (+ residual, or + bias), all rows. X is what was lowered last.
  void Multiply(const Product& product, size_t rows, const float* x, size_t x_stride,
                const float* low, const float* residual, float* y, const ParallelFor& parallel);
  // d_low = scale dY B for each slice, on rows [begin, begin + rows) of dY, which it rounds too.
  void LowerGradient(const Product& product, const float* dy, size_t dy_stride, size_t begin,
                     size_t rows) const;
  // The gradients of A and B of one slice.
  void GradientOfA(const Product& product, const Slice& slice, size_t rows, const float* x,
                   size_t x_stride, float* gradient) const;
  void GradientOfB(const Product& product, const Slice& slice, size_t rows, const float* dy,
                   size_t dy_stride, const float* low, float* gradient) const;
  // One tile of dX = dY W + d_low A.
  void InputGradient(const Product& product, const Tiles::Tile& tile, const float* dy,
                     size_t dy_stride, float* dx) const;
  // dX (unless null) and the gradients of A and B; after_tile(tile) runs after each tile of dX. dY
  // is that of the last LowerGradient.
  template <class AfterTile>
  void MultiplyBackward(const Product& product, size_t rows, const float* x, size_t x_stride,
                        const float* dy, size_t dy_stride, const float* low, float* dx,
                        float* gradient, const ParallelFor& parallel, AfterTile&& after_tile);

  // Without next_x, all that is kept of the layer and no more.
  void ForwardLayer(const PackedRows& batch, size_t layer, const Kept& kept, float* next_x,
                    const ParallelFor& parallel);
  // A head's columns of a sequence's q, k and v.
  HeadView ViewOf(size_t layer, const Kept& kept, const PackedSequence& sequence,
                  size_t head) const;
  template <class Body>
  void ForHeads(const PackedRows& batch, const ParallelFor& parallel, Body&& body);
  void Attend(const PackedRows& batch, size_t layer, const Kept& kept, const ParallelFor& parallel);
  void BackwardFeedForward(size_t rows, size_t layer, const Kept& kept, float* gradient,
                           const ParallelFor& parallel);
  void BackwardAttention(const PackedRows& batch, size_t layer, const Kept& kept, float* gradient,
                         const ParallelFor& parallel);
  void AttendBackward(const PackedRows& batch, size_t layer, const Kept& kept,
                      const ParallelFor& parallel);
  void SumSharedKeys(size_t begin, size_t rows);

  std::shared_ptr<const FrozenWeights> weights_;
  const LlamaShape& shape_;
  std::vector<Slice> qkv_slices_, output_slices_, gate_up_slices_, down_slices_;
  Adapter adapter_;
  const MultiplyFunction multiply_;  // but for products with frozen weights

  const uint32_t max_rank_;
  const size_t bytes_max_;
  const RotaryTable rotations_;
  AlignedFloats arena_;
  size_t rows_ = 0;  // of the batch at hand, whose arrays are
  Work work_{};
  float* hidden_ = nullptr;  // last_x, or where a forward-only pass ended
};

}  // namespace nudge
