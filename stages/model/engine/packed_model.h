// A model's matrices, and an adapter's, as the products of the answer engine read them:
// FrozenWeights -> [PackedModel], LoraWeights -> [PackedAdapter].
//
// Norms, biases, embeddings and rotation stay those of FrozenWeights. Made by one thread,
// afterwards never changed: any thread may read, and each is dropped by any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "stages/model/engine/products.h"
#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

// The products of a block. Modules that read the same input are one product: their outputs lie side
// by side.
enum class BlockProduct : uint8_t { kQueryKeyValue, kOutput, kGateUp, kDown };
inline constexpr size_t kBlockProducts = 4;

class PackedArena;

class PackedModel {
 public:
  // Weights that are read in place (BaseForm::in_file) keep the file's form where the products know
  // it, which takes as much memory as the file; all others are floats. Several parts of the work
  // run at once. Errors: kUnsupportedModel (weights as bf16 products see them: answers are by the
  // file's own numbers; no memory).
  static Result<std::shared_ptr<const PackedModel>> Pack(
      std::shared_ptr<const FrozenWeights> weights, const ParallelFor& parallel);

  const FrozenWeights& weights() const { return *weights_; }
  const LlamaShape& shape() const { return weights_->shape(); }
  const PackedMatrix& Of(size_t layer, BlockProduct product) const {
    return layers_[layer][static_cast<size_t>(product)];
  }
  const PackedMatrix& head() const { return head_; }  // [vocabulary, hidden]
  size_t bytes() const { return bytes_; }             // of the matrices
  // Of products with them: portable for weights that are, else the fastest.
  ProductPath path() const {
    return weights_->form().products == BaseProducts::kPortable ? ProductPath::kPortable
                                                                : FastestPath();
  }

 private:
  using Layer = std::array<PackedMatrix, kBlockProducts>;
  void PackInto(const FrozenWeights& weights, const ParallelFor& parallel, PackedArena& arena);

  std::shared_ptr<const FrozenWeights> weights_;
  size_t bytes_ = 0;
  AlignedFloats memory_;  // of all matrices, in the order in which a pass reads them
  std::vector<Layer> layers_;
  PackedMatrix head_;
};

// y = W x + scale B (A x). All modules of a product read one A; of B there is a piece for each of
// the product's panels, so that who computes some panels of W x adds its pieces.
class PackedAdapter {
 public:
  // Errors: kWrongAdapter (made for another model, or with numbers that are not finite).
  static Result<std::shared_ptr<const PackedAdapter>> Pack(const LoraWeights& adapter,
                                                           const FrozenWeights& weights);

  // Columns [column, column + b.out) of Y, from numbers [low, low + b.in) of A x. In memory the
  // pieces of a module follow each other.
  struct Piece {
    size_t column;
    size_t low;
    Panels b = {};
  };
  struct Product {
    PackedMatrix a;             // [enabled modules x rank, in]; none: no module is enabled
    std::vector<Piece> pieces;  // ascending columns; none crosses a panel of W

    size_t low() const { return a.out(); }  // numbers of A x
  };

  const Product& Of(size_t layer, BlockProduct product) const {
    return products_[layer * kBlockProducts + static_cast<size_t>(product)];
  }
  uint32_t rank() const { return rank_; }
  float scale() const { return scale_; }  // alpha / rank
  size_t bytes() const { return bytes_; }

 private:
  void PackInto(const LoraWeights& adapter, PackedArena& arena);
  static Product PackProduct(const LoraWeights& adapter, size_t layer, BlockProduct product,
                             PackedArena& arena);
  static void PackPieces(const float* b, Piece begin, size_t out, size_t rank, PackedArena& arena,
                         std::vector<Piece>& pieces);

  uint32_t rank_ = 0;
  float scale_ = 0;
  size_t bytes_ = 0;
  AlignedFloats memory_;
  std::vector<Product> products_;
};

}  // namespace nudge
