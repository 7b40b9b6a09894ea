// What the trainer's suites share: a ParallelFor on plain threads, and a small random Llama as a
// GGUF file and as the model of the trainer's slow twin (trainer_reference.h).
#pragma once

#include <ggml.h>
#include <gguf.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/trainer.h"
#include "stages/model/trainer/trainer_reference.h"

namespace nudge::testing {

inline ParallelFor ThreadsFor(int threads) {
  return [threads](int parts, const std::function<void(int)>& body) {
    std::atomic<int> next{0};
    const auto work = [&] {
      for (int part = next++; part < parts; part = next++) body(part);
    };
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  };
}

// Every way to multiply that this processor has.
inline std::vector<BaseProducts> ProductsHere() {
  std::vector<BaseProducts> products = {BaseProducts::kF32, BaseProducts::kPortable};
  if (HasBf16Products()) products.push_back(BaseProducts::kBf16);
  return products;
}

// A counter-based uniform number in [-1, 1).
inline float Uniform(uint64_t seed, uint64_t index) {
  uint64_t x = seed * 0x9E3779B97F4A7C15u + index * 0xD1B54A32D192ED03u + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  x ^= x >> 31;
  return static_cast<float>(static_cast<double>(x >> 11) * 0x1p-52 - 1.0);
}

// Central differences of the twin's loss by every so many of the adapter's values, 0 for the
// others; its tokens weigh what they weigh with the values as given.
inline std::vector<double> CentralDifferences(const ReferenceTrainer& twin,
                                              const TrainSequence& sequence,
                                              const std::vector<double>& given, size_t every = 1) {
  constexpr double kStep = 1e-5;
  std::vector<double> values = given;
  std::vector<double> gradient(values.size());
  for (size_t i = 0; i < values.size(); i += every) {
    values[i] = given[i] + kStep;
    const double above = twin.Loss(sequence, values, given);
    values[i] = given[i] - kStep;
    gradient[i] = (above - twin.Loss(sequence, values, given)) / (2 * kStep);
    values[i] = given[i];
  }
  return gradient;
}

// A path that is removed at the end of the scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              ("nudge-" + std::to_string(getpid()) + "-" + name)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Sizes that are no multiple of any block: tails everywhere.
struct TinyLlama : ReferenceModel {
  size_t feed_forward = 44, vocabulary = 67, context = 512;
  bool lists_tokens = false;    // as a model that is served has it
  bool reads_text = false;      // bytes as tokens, and ChatML; set by ReadText
  std::string left_out, extra;  // a tensor that Write forgets, and one that it makes up
  // What Write says of the heads in spite of the tensors; a head_dim of 0 is not said.
  std::optional<size_t> told_heads, told_kv_heads, told_head_dim;

  TinyLlama() {
    layers = 2;
    hidden = 36;
    heads = 4;
    kv_heads = 2;
    head_dim = 8;
  }

  size_t Key() const { return kv_heads * head_dim; }

  // Before Fill: a vocabulary of all bytes, two merges, and what ChatML writes.
  void ReadText() {
    reads_text = true;
    vocabulary = ByteTokens().size();
  }

  std::vector<std::pair<std::string, std::pair<size_t, size_t>>> Layout() const {
    std::vector<std::pair<std::string, std::pair<size_t, size_t>>> layout;
    layout.push_back({"token_embd.weight", {vocabulary, hidden}});
    layout.push_back({"output_norm.weight", {1, hidden}});
    if (!tied) layout.push_back({"output.weight", {vocabulary, hidden}});
    for (size_t l = 0; l < layers; ++l) {
      const std::string block = "blk." + std::to_string(l) + ".";
      layout.push_back({block + "attn_norm.weight", {1, hidden}});
      layout.push_back({block + "attn_q.weight", {Query(), hidden}});
      layout.push_back({block + "attn_k.weight", {Key(), hidden}});
      layout.push_back({block + "attn_v.weight", {Key(), hidden}});
      layout.push_back({block + "attn_output.weight", {hidden, Query()}});
      if (architecture == "qwen2") {
        layout.push_back({block + "attn_q.bias", {1, Query()}});
        layout.push_back({block + "attn_k.bias", {1, Key()}});
        layout.push_back({block + "attn_v.bias", {1, Key()}});
      }
      if (architecture == "qwen3") {
        layout.push_back({block + "attn_q_norm.weight", {1, head_dim}});
        layout.push_back({block + "attn_k_norm.weight", {1, head_dim}});
      }
      layout.push_back({block + "ffn_norm.weight", {1, hidden}});
      layout.push_back({block + "ffn_gate.weight", {feed_forward, hidden}});
      layout.push_back({block + "ffn_up.weight", {feed_forward, hidden}});
      layout.push_back({block + "ffn_down.weight", {hidden, feed_forward}});
    }
    return layout;
  }

  // The first 256 are the bytes in the spelling of GPT-2's vocabularies, which has a character for
  // each of them.
  static std::vector<std::string> ByteTokens() {
    std::vector<std::string> tokens;
    for (int byte = 0, strange = 0; byte < 256; ++byte) {
      const bool plain = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const int character = plain ? byte : 256 + strange++;
      tokens.push_back(character < 0x80
                           ? std::string(1, static_cast<char>(character))
                           : std::string{static_cast<char>(0xC0 | character >> 6),
                                         static_cast<char>(0x80 | (character & 0x3F))});
    }
    tokens.insert(tokens.end(), {"th", "the", "<|im_start|>", "<|im_end|>"});
    return tokens;
  }

  void WriteText(gguf_context* file) const {
    const std::vector<std::string> tokens = ByteTokens();
    std::vector<const char*> texts;
    std::vector<int32_t> types;
    constexpr int32_t kNormal = 1, kControl = 3;
    for (const std::string& token : tokens) {
      texts.push_back(token.c_str());
      types.push_back(token.starts_with("<|") ? kControl : kNormal);
    }
    const char* merges[] = {"t h", "th e"};
    gguf_set_val_str(file, "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(file, "tokenizer.ggml.pre", "smollm");
    gguf_set_arr_str(file, "tokenizer.ggml.tokens", texts.data(), texts.size());
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(),
                      types.size());
    gguf_set_arr_str(file, "tokenizer.ggml.merges", merges, 2);
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", static_cast<uint32_t>(texts.size() - 1));
    gguf_set_val_str(file, "tokenizer.chat_template",
                     "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
                     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if "
                     "add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  }

  void Fill(uint64_t seed) {
    uint64_t index = 0;
    for (const auto& [name, size] : Layout()) {
      std::vector<float>& values = tensors[name];
      values.resize(size.first * size.second);
      const bool norm = size.first == 1;
      const float width = norm ? 0.3f : 1.7f / std::sqrt(static_cast<float>(size.second));
      for (float& value : values) value = (norm ? 1.0f : 0.0f) + width * Uniform(seed, index++);
    }
  }

  // The model as it comes back from a file whose matrices (not norms) are stored as `type`.
  TinyLlama Stored(ggml_type type) const {
    TinyLlama stored = *this;
    for (const auto& [name, size] : Layout()) {
      if (size.first == 1) continue;
      std::vector<float>& values = stored.tensors.at(name);
      const auto rows = static_cast<int64_t>(size.first);
      const auto width = static_cast<int64_t>(size.second);
      std::vector<char> bytes(ggml_row_size(type, width) * size.first);
      ggml_quantize_chunk(type, values.data(), bytes.data(), 0, rows, width, nullptr);
      ggml_get_type_traits(type)->to_float(bytes.data(), values.data(), rows * width);
    }
    return stored;
  }

  // Matrices (not norms) are stored as `type`.
  void Write(const std::filesystem::path& path, ggml_type type = GGML_TYPE_F32) const {
    size_t bytes = 1 << 20;
    for (const auto& [name, values] : tensors) bytes += values.size() * sizeof(float) + 1024;
    ggml_context* memory = ggml_init({bytes, nullptr, false});
    gguf_context* file = gguf_init_empty();
    const auto key = [&](const char* name) { return architecture + "." + name; };
    const auto number = [&](const char* name, size_t value) {
      gguf_set_val_u32(file, key(name).c_str(), static_cast<uint32_t>(value));
    };
    gguf_set_val_str(file, "general.architecture", architecture.c_str());
    number("block_count", layers);
    number("context_length", context);
    number("embedding_length", hidden);
    number("feed_forward_length", feed_forward);
    number("attention.head_count", told_heads.value_or(heads));
    number("attention.head_count_kv", told_kv_heads.value_or(kv_heads));
    if (const size_t size = told_head_dim.value_or(head_dim); size != 0) {
      number("attention.key_length", size);
      number("attention.value_length", size);
      number("rope.dimension_count", size);
    }
    number("vocab_size", vocabulary);
    gguf_set_val_f32(file, key("rope.freq_base").c_str(), 1000.0f);
    gguf_set_val_f32(file, key("attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
    if (reads_text) {
      WriteText(file);
    } else {
      gguf_set_val_str(file, "tokenizer.ggml.model", "no_vocab");
    }
    if (lists_tokens) {
      std::vector<std::string> texts;
      for (size_t i = 0; i < vocabulary; ++i) texts.push_back("t" + std::to_string(i));
      std::vector<const char*> tokens;
      for (const std::string& text : texts) tokens.push_back(text.c_str());
      gguf_set_arr_str(file, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
    }
    if (!extra.empty()) {
      ggml_tensor* tensor = ggml_new_tensor_1d(memory, GGML_TYPE_F32, 4);
      ggml_set_name(tensor, extra.c_str());
      std::fill_n(static_cast<float*>(tensor->data), 4, 0.0f);
      gguf_add_tensor(file, tensor);
    }
    for (const auto& [name, size] : Layout()) {
      if (name == left_out) continue;
      const auto [rows, width] = size;
      const ggml_type stored = rows == 1 ? GGML_TYPE_F32 : type;
      ggml_tensor* tensor = rows == 1
                                ? ggml_new_tensor_1d(memory, stored, static_cast<int64_t>(width))
                                : ggml_new_tensor_2d(memory, stored, static_cast<int64_t>(width),
                                                     static_cast<int64_t>(rows));
      ggml_set_name(tensor, name.c_str());
      ggml_quantize_chunk(stored, tensors.at(name).data(), tensor->data, 0,
                          static_cast<int64_t>(rows), static_cast<int64_t>(width), nullptr);
      gguf_add_tensor(file, tensor);
    }
    gguf_write_to_file(file, path.c_str(), false);
    gguf_free(file);
    ggml_free(memory);
  }

 private:
};

inline LoraWeights RandomAdapter(const LoraShape& shape, uint64_t seed, float width) {
  LoraWeights weights{shape, std::vector<float>(shape.Size())};
  for (size_t i = 0; i < weights.values.size(); ++i) weights.values[i] = width * Uniform(seed, i);
  return weights;
}

inline void ClearB(LoraWeights& weights) {
  for (uint32_t layer = 0; layer < weights.shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      std::fill_n(weights.values.begin() +
                      static_cast<std::ptrdiff_t>(weights.shape.OffsetB(layer, module)),
                  weights.shape.SizeB(module), 0.0f);
    }
  }
}

inline double RelativeL2(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    difference += d * d;
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// KL(softmax(base) || softmax(logits)) in nats, in double.
inline double KlOf(std::span<const float> base, std::span<const float> logits) {
  const auto log_sum = [](std::span<const float> row) {
    const auto largest = static_cast<double>(*std::max_element(row.begin(), row.end()));
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x) - largest);
    return largest + std::log(sum);
  };
  const double base_sum = log_sum(base);
  const double sum = log_sum(logits);
  double kl = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = static_cast<double>(base[i]) - base_sum;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(logits[i]) - sum));
  }
  return kl;
}

inline std::vector<int32_t> RandomTokens(size_t count, size_t vocabulary, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    const double u = (static_cast<double>(Uniform(seed, i)) + 1) / 2;
    tokens.push_back(std::min(static_cast<int32_t>(u * static_cast<double>(vocabulary)),
                              static_cast<int32_t>(vocabulary) - 1));
  }
  return tokens;
}

inline constexpr std::array<bool, kLoraModules> kAllModules = {true, true, true, true,
                                                               true, true, true};

}  // namespace nudge::testing
