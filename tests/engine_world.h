// What the answer engine's suites share: small random models on disk, as the trainer and as the
// engine have them.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "stages/model/engine/pass.h"
#include "tests/trainer_helpers.h"

namespace nudge::testing {

inline constexpr size_t kPoolBytes = size_t{64} << 20;

inline TinyLlama ModelOf(const std::string& architecture) {
  TinyLlama model;
  model.architecture = architecture;
  if (architecture == "qwen3") {
    model.head_dim = 70;  // values in two panels
    model.tied = false;
  }
  if (architecture == "qwen2") model.layers = 3;
  model.Fill(11);
  return model;
}

// Rows of whole blocks, so that every product has the file's form.
inline TinyLlama BlockModel() {
  TinyLlama model;
  model.hidden = 64;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_dim = 16;
  model.feed_forward = 96;
  model.vocabulary = 131;
  model.Fill(12);
  return model;
}

// A model on disk, as the trainer and as the engine have it.
struct EngineWorld {
  explicit EngineWorld(const TinyLlama& model, ggml_type type = GGML_TYPE_F32, BaseForm form = {},
                       EngineLimits limits = {.rows_max = 200, .positions_max = 300, .rank_max = 8})
      : file("engine.gguf") {
    model.Write(file.path(), type);
    auto loaded = FrozenWeights::Load(file.path(), form);
    BOOST_REQUIRE(loaded.ok());
    weights = *loaded;
    auto made = PackedModel::Pack(weights, ThreadsFor(2));
    BOOST_REQUIRE(made.ok());
    packed = *made;
    pool.emplace(weights->shape(), kPoolBytes);
    pass.emplace(packed, limits);
  }

  size_t vocabulary() const { return weights->shape().vocabulary; }

  std::shared_ptr<const PackedAdapter> Adapter(
      uint32_t rank, uint64_t seed, const std::array<bool, kLoraModules>& enabled = kAllModules) {
    lora.push_back(RandomAdapter(
        weights->AdapterShape(rank, 2.0f * static_cast<float>(rank), enabled), seed, 0.1f));
    auto adapter = PackedAdapter::Pack(lora.back(), *weights);
    BOOST_REQUIRE(adapter.ok());
    return *adapter;
  }

  // Logits of all tokens, [tokens, vocabulary], the tokens cut into pieces of these lengths and
  // then as they are left.
  std::vector<float> Logits(const std::vector<int32_t>& tokens, const PackedAdapter* adapter,
                            const std::vector<size_t>& pieces = {}, int threads = 1) {
    KeySequence sequence(*pool);
    std::vector<float> logits(tokens.size() * vocabulary());
    size_t begin = 0;
    size_t piece = 0;
    while (begin < tokens.size()) {
      const size_t left = tokens.size() - begin;
      const size_t count = pieces.empty() ? left : std::min(left, pieces[piece++ % pieces.size()]);
      const EngineRows rows{&sequence, std::span(tokens).subspan(begin, count), adapter,
                            WantedLogits::kAll};
      const auto ran = pass->Run({&rows, 1}, ThreadsFor(threads),
                                 std::span(logits).subspan(begin * vocabulary()));
      BOOST_REQUIRE(ran.ok());
      begin += count;
    }
    BOOST_TEST(sequence.length() == tokens.size());
    return logits;
  }

  TemporaryFile file;
  std::shared_ptr<const FrozenWeights> weights;
  std::shared_ptr<const PackedModel> packed;
  std::optional<KeyPages> pool;
  std::optional<EnginePass> pass;
  std::vector<LoraWeights> lora;
};

inline bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace nudge::testing
