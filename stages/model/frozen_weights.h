// The base model that adapters are trained on: the weights of a Llama GGUF file as f32.
//
// One instance is shared by all tenants. Loading runs on one thread at start-up; afterwards the
// value never changes and any thread may read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "stages/model/gemm.h"
#include "stages/model/lora.h"
#include "stages/result.h"

namespace nudge {

struct LlamaShape {
  size_t layers = 0;
  size_t hidden = 0;
  size_t heads = 0;
  size_t kv_heads = 0;  // divides heads
  size_t head_dim = 0;  // even
  size_t feed_forward = 0;
  size_t vocabulary = 0;
  size_t context = 0;    // positions that the model was made for
  float rope_theta = 0;  // base of the rotation's wavelengths
  float norm_epsilon = 0;

  size_t QueryWidth() const { return heads * head_dim; }
  size_t KeyWidth() const { return kv_heads * head_dim; }
  size_t AttentionWidth() const { return QueryWidth() + 2 * KeyWidth(); }
};

// Weights of one block. Matrices that share their input lie one after the other, so that they are
// one product.
struct LlamaLayer {
  std::vector<float> attention_norm;  // [hidden]
  FrozenMatrix query_key_value;       // [query + 2 key widths, hidden]
  FrozenMatrix output;                // [hidden, query width]
  std::vector<float> feed_norm;       // [hidden]
  FrozenMatrix gate_up;               // [2 feed_forward, hidden]
  FrozenMatrix down;                  // [hidden, feed_forward]
};

class FrozenWeights {
 public:
  // Reads a GGUF of architecture `llama` in any tensor type that ggml can turn into f32.
  // Errors: kUnreadableFile (missing, not GGUF, truncated, a tensor missing or of the wrong size, a
  // number that is not finite), kUnsupportedModel (another architecture, experts, biases, scaled
  // rotation).
  static Result<std::shared_ptr<const FrozenWeights>> Load(const std::filesystem::path& path);

  const LlamaShape& shape() const { return shape_; }
  std::span<const LlamaLayer> layers() const { return layers_; }
  std::span<const float> final_norm() const { return final_norm_; }          // [hidden]
  const FrozenMatrix& head() const { return untied_ ? head_ : embedding_; }  // [vocabulary, hidden]

  // The embedding of a token, [hidden]. Requires 0 <= token < vocabulary.
  std::span<const float> Embedding(int32_t token) const;

  // Wavelengths' divisors of Llama 3 files, [head_dim / 2]; all ones elsewhere.
  std::span<const float> rope_factors() const { return rope_factors_; }

  // The shape of an adapter of this model. Requires rank in 1..64.
  LoraShape AdapterShape(uint32_t rank, float alpha,
                         const std::array<bool, kLoraModules>& enabled) const;

  // Bytes held in memory.
  size_t bytes() const;

 private:
  friend class LlamaReader;

  LlamaShape shape_;
  std::vector<LlamaLayer> layers_;
  std::vector<float> final_norm_;
  std::vector<float> rope_factors_;
  FrozenMatrix embedding_;
  FrozenMatrix head_;
  bool untied_ = false;
};

}  // namespace nudge
