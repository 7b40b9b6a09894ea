// The base model that adapters are trained on: the weights of a GGUF file of the Llama family
// (`llama`, `qwen2`, `qwen3`), in memory or read in place (BaseForm).
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
#include <string>
#include <vector>

#include "stages/model/trainer/frozen_matrix.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/lora.h"
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
  RotaryPairs rotary_pairs = RotaryPairs::kAdjacent;

  size_t QueryWidth() const { return heads * head_dim; }
  size_t KeyWidth() const { return kv_heads * head_dim; }
  size_t AttentionWidth() const { return QueryWidth() + 2 * KeyWidth(); }
};

// Weights of one block. Matrices that share their input lie one after the other, so that they are
// one product.
struct LlamaLayer {
  std::vector<float> attention_norm;  // [hidden]
  FrozenMatrix query_key_value;       // [query + 2 key widths, hidden]
  std::vector<float> attention_bias;  // [query + 2 key widths], added to q k v; empty: none
  std::vector<float> query_norm;      // [head_dim], of each head before rotation; empty: none
  std::vector<float> key_norm;        // [head_dim]
  FrozenMatrix output;                // [hidden, query width]
  std::vector<float> feed_norm;       // [hidden]
  FrozenMatrix gate_up;               // [2 feed_forward, hidden]
  FrozenMatrix down;                  // [hidden, feed_forward]
};

class FrozenWeights {
 public:
  // Reads a GGUF of architecture `llama`, `qwen2` or `qwen3` in any tensor type that ggml can turn
  // into f32. With form.in_file the file stays mapped: it is not to be changed in place.
  // Errors: kUnreadableFile (missing, not GGUF, truncated, a tensor missing or of the wrong size, a
  // number that is not finite), kUnsupportedModel (another architecture, experts, scaled rotation,
  // a tensor that the trainer does not know or cannot widen; no memory; bf16 where the processor
  // has no such products).
  static Result<std::shared_ptr<const FrozenWeights>> Load(const std::filesystem::path& path,
                                                           BaseForm form = {});

  // The same of a file's bytes, which are kept as long as the weights with form.in_file, else not
  // beyond the call. `name` stands for the path in messages.
  static Result<std::shared_ptr<const FrozenWeights>> LoadBytes(std::shared_ptr<const void> bytes,
                                                                size_t count,
                                                                const std::string& name,
                                                                BaseForm form = {});

  // What Load would say of the file, by its header alone: milliseconds, and no weights in memory.
  // Only numbers that are not finite go unseen.
  static Result<LlamaShape> Check(const std::filesystem::path& path);

  BaseForm form() const { return form_; }
  const std::string& architecture() const { return architecture_; }  // "llama", "qwen2", "qwen3"
  const LlamaShape& shape() const { return shape_; }
  std::span<const LlamaLayer> layers() const { return layers_; }
  std::span<const float> final_norm() const { return final_norm_; }          // [hidden]
  const FrozenMatrix& head() const { return untied_ ? head_ : embedding_; }  // [vocabulary, hidden]

  // Writes the embedding of a token to to[hidden]. Requires 0 <= token < vocabulary.
  void Embedding(int32_t token, float* to) const { embedding_.Row(static_cast<size_t>(token), to); }

  // Wavelengths' divisors of Llama 3 files, [head_dim / 2]; all ones elsewhere.
  std::span<const float> rope_factors() const { return rope_factors_; }

  // The shape of an adapter of this model. Requires rank in 1..64.
  LoraShape AdapterShape(uint32_t rank, float alpha,
                         const std::array<bool, kLoraModules>& enabled) const;

  // Bytes held in memory; a mapped file does not count.
  size_t bytes() const;

 private:
  friend class LlamaReader;

  std::shared_ptr<const void> bytes_;  // of the file, where weights lie in it
  BaseForm form_;
  std::string architecture_;
  LlamaShape shape_;
  std::vector<LlamaLayer> layers_;
  std::vector<float> final_norm_;
  std::vector<float> rope_factors_;
  FrozenMatrix embedding_;
  FrozenMatrix head_;
  bool untied_ = false;
};

}  // namespace nudge
