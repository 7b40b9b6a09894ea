// The forward pass that answers: EngineBatch (new tokens of some sequences) -> [EnginePass] ->
// logits of their last tokens, and their keys and values in pages.
//
// Sequences of any depth go through the model together, each with an adapter of its own or none:
// products with the base model's weights take all rows at once, low-rank products go by groups of
// rows with the same adapter. A row's bits depend on its sequence's tokens and on its adapter
// alone: not on the other rows, on how its tokens were cut into batches, on which of them were read
// before by somebody else, or on threads. Products, attention and norms all keep one fixed order a
// row.
//
// One instance is used by one thread at a time (the parts it hands to ParallelFor may run
// anywhere); its memory is taken once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "stages/model/engine/key_pages.h"
#include "stages/model/engine/packed_model.h"
#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/rotary_table.h"
#include "stages/result.h"

namespace nudge {

enum class WantedLogits : uint8_t { kNone, kLast, kAll };

// Tokens that follow what `sequence` has read.
struct EngineRows {
  KeySequence* sequence = nullptr;
  std::span<const int32_t> tokens;
  const PackedAdapter* adapter = nullptr;  // null: the base model
  WantedLogits wants = WantedLogits::kLast;
};
using EngineBatch = std::span<const EngineRows>;

struct EngineLimits {
  size_t rows_max = 256;        // of one batch; 49 KB each of SmolLM2-135M
  size_t positions_max = 2048;  // of a sequence; cut to what the model was made for
  uint32_t rank_max = 64;
};

class EnginePass {
 public:
  EnginePass(std::shared_ptr<const PackedModel> model, EngineLimits limits);

  const EngineLimits& limits() const { return limits_; }
  static size_t WantedRows(EngineBatch batch);

  // Reads the tokens, and writes [WantedRows, vocabulary] logits in the order of the batch.
  // Errors, after which nothing has changed: kBusy (no pages for all of it), kModelFailed (no
  // tokens, more than rows_max, a sequence longer than positions_max or twice in the batch, a token
  // outside the vocabulary), kWrongAdapter (a rank over the limit).
  // Requires room for the logits, adapters of this model, and sequences of one pool.
  Result<Nothing> Run(EngineBatch batch, const ParallelFor& parallel, std::span<float> logits);

 private:
  // Rows of one sequence, next to each other.
  struct Stretch {
    const EngineRows* of;
    size_t first;  // row
    size_t count;
    size_t position;  // of the first row
  };
  // Rows with the same adapter, next to each other.
  struct Group {
    const PackedAdapter* adapter;
    size_t first;
    size_t count;
  };
  // A block of a stretch's queries, as attention goes through them.
  struct QueryBlock {
    const Stretch* stretch;
    size_t first;  // row of the stretch
    size_t count;
  };
  struct RowAt {
    const KeySequence* sequence;
    size_t position;
  };
  struct Wanted {
    size_t row;
    size_t to;  // row of the logits
  };

  Result<Nothing> Check(EngineBatch batch) const;
  static Result<Nothing> Reserve(EngineBatch batch);
  void Lay(EngineBatch batch);
  void AddGroup(const PackedAdapter* adapter, size_t rows);
  void CutQueries();
  void Layer(size_t layer, const ParallelFor& parallel);
  // Y = or += X W^T, and the low-rank part of each group.
  void Multiply(size_t layer, BlockProduct product, const float* x, size_t x_stride, float* y,
                size_t y_stride, ProductMode mode, const ParallelFor& parallel);
  void Lower(size_t layer, BlockProduct product, const float* x, size_t x_stride,
             const ParallelFor& parallel);
  void AddPieces(size_t layer, BlockProduct product, size_t first_panel, size_t panels, float* y,
                 size_t y_stride) const;
  void StoreKeys(size_t layer, size_t row);
  void Attend(size_t layer, const QueryBlock& block, size_t kv_head);
  void KeepWanted();
  void Logits(std::span<float> logits, const ParallelFor& parallel);

  std::shared_ptr<const PackedModel> model_;
  const LlamaShape& shape_;
  const EngineLimits limits_;
  const ProductPath path_;
  const RotaryTable rotations_;

  AlignedFloats x_;         // [rows, hidden], what the blocks add to
  AlignedFloats normed_;    // [rows, hidden]
  AlignedFloats qkv_;       // [rows, attention width]
  AlignedFloats attended_;  // [rows, query width]
  AlignedFloats gate_up_;   // [rows, 2 feed_forward]
  AlignedFloats active_;    // [rows, feed_forward]
  AlignedFloats low_;       // [rows, 3 rank_max], scale A x of a product's modules

  // Of the batch at hand.
  size_t rows_ = 0;
  std::vector<Stretch> stretches_;
  std::vector<Group> groups_;
  std::vector<QueryBlock> queries_;
  std::vector<RowAt> places_;    // of each row
  std::vector<int32_t> tokens_;  // of each row
  std::vector<Wanted> wanted_;   // ascending rows
};

}  // namespace nudge
