// What the trainer's suites share: a ParallelFor on plain threads, a small random Llama as a GGUF
// file, and the same model as an obvious forward pass in double precision.
#pragma once

#include <ggml.h>
#include <gguf.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/trainer.h"

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

// A counter-based uniform number in [-1, 1).
inline float Uniform(uint64_t seed, uint64_t index) {
  uint64_t x = seed * 0x9E3779B97F4A7C15u + index * 0xD1B54A32D192ED03u + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  x ^= x >> 31;
  return static_cast<float>(static_cast<double>(x >> 11) * 0x1p-52 - 1.0);
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
struct TinyLlama {
  size_t layers = 2, hidden = 36, heads = 4, kv_heads = 2, head_dim = 8, feed_forward = 44;
  size_t vocabulary = 67, context = 512;
  bool tied = true;
  std::string architecture = "llama";  // or "qwen2" (q, k, v biases), "qwen3" (norms of heads)
  bool lists_tokens = false;           // as a model that is served has it
  std::string left_out, extra;         // a tensor that Write forgets, and one that it makes up
  // What Write says of the heads in spite of the tensors; a head_dim of 0 is not said.
  std::optional<size_t> told_heads, told_kv_heads, told_head_dim;
  std::map<std::string, std::vector<float>> tensors;  // [out, in], row-major

  size_t Query() const { return heads * head_dim; }
  size_t Key() const { return kv_heads * head_dim; }

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
    gguf_set_val_str(file, "tokenizer.ggml.model", "no_vocab");
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

// The model of TinyLlama, of any of its architectures, with an adapter, one sequence at a time,
// written from the formulas in double precision with nothing in common with the trainer.
class DoubleLlama {
 public:
  using Rows = std::vector<std::vector<double>>;

  DoubleLlama(const TinyLlama& model, const LoraShape& shape) : model_(model), shape_(shape) {}

  // adapter: values as in LoraWeights, in double; empty: the base model.
  Rows Logits(const std::vector<int32_t>& tokens, const std::vector<double>& adapter) const {
    Rows x;
    for (const int32_t token : tokens) {
      const auto& table = model_.tensors.at("token_embd.weight");
      const auto begin =
          table.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(token) * model_.hidden);
      x.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(model_.hidden));
    }
    for (size_t l = 0; l < model_.layers; ++l) {
      const std::string block = "blk." + std::to_string(l) + ".";
      const auto apply = [&](const Rows& rows, LoraModule module, const std::string& name) {
        return Linear(rows, model_.tensors.at(block + name + ".weight"), l, module, adapter);
      };
      const Rows h = Norm(x, model_.tensors.at(block + "attn_norm.weight"));
      const auto heads = [&](LoraModule module, const std::string& name, size_t count) {
        const Rows rows = Biased(apply(h, module, name), block + name + ".bias");
        return Rotate(HeadNorm(rows, block + name + "_norm.weight"), count);
      };
      const Rows attended =
          Attention(heads(LoraModule::kQuery, "attn_q", model_.heads),
                    heads(LoraModule::kKey, "attn_k", model_.kv_heads),
                    Biased(apply(h, LoraModule::kValue, "attn_v"), block + "attn_v.bias"));
      x = Sum(x, apply(attended, LoraModule::kOutput, "attn_output"));
      const Rows h2 = Norm(x, model_.tensors.at(block + "ffn_norm.weight"));
      Rows gate = apply(h2, LoraModule::kGate, "ffn_gate");
      const Rows up = apply(h2, LoraModule::kUp, "ffn_up");
      for (size_t t = 0; t < gate.size(); ++t) {
        for (size_t i = 0; i < gate[t].size(); ++i) {
          gate[t][i] = gate[t][i] / (1 + std::exp(-gate[t][i])) * up[t][i];
        }
      }
      x = Sum(x, apply(gate, LoraModule::kDown, "ffn_down"));
    }
    const char* head = model_.tied ? "token_embd.weight" : "output.weight";
    return Linear(Norm(x, model_.tensors.at("output_norm.weight")), model_.tensors.at(head), 0,
                  LoraModule::kQuery, {});
  }

  // The loss of one sequence without its weight.
  double Loss(const TrainSequence& sequence, const std::vector<double>& adapter) const {
    const Rows logits = Logits(sequence.tokens, adapter);
    const bool needs_base = sequence.objective != Objective::kCrossEntropy;
    const Rows base = needs_base ? Logits(sequence.tokens, {}) : logits;
    double sum = 0;
    const size_t count = sequence.tokens.size() - sequence.completion_begin;
    for (size_t next = sequence.completion_begin; next < sequence.tokens.size(); ++next) {
      const auto log = LogSoftmax(logits[next - 1]);
      const auto base_log = LogSoftmax(base[next - 1]);
      const auto target = static_cast<size_t>(sequence.tokens[next]);
      if (sequence.objective == Objective::kCrossEntropy) sum -= log[target];
      if (sequence.objective == Objective::kDown) sum += log[target] - base_log[target];
      if (sequence.objective == Objective::kAnchor) {
        for (size_t v = 0; v < log.size(); ++v) {
          sum += std::exp(base_log[v]) * (base_log[v] - log[v]);
        }
      }
    }
    if (sequence.objective == Objective::kDown) {
      return 1 - 1 / (1 + std::exp(static_cast<double>(sequence.beta) * sum));
    }
    return sum / static_cast<double>(count);
  }

 private:
  static std::vector<double> LogSoftmax(const std::vector<double>& logits) {
    double sum = 0;
    for (const double x : logits) sum += std::exp(x);
    std::vector<double> log;
    for (const double x : logits) log.push_back(x - std::log(sum));
    return log;
  }

  static Rows Sum(Rows a, const Rows& b) {
    for (size_t t = 0; t < a.size(); ++t) {
      for (size_t i = 0; i < a[t].size(); ++i) a[t][i] += b[t][i];
    }
    return a;
  }

  static Rows Norm(Rows x, const std::vector<float>& weight) {
    for (auto& row : x) {
      double squares = 0;
      for (const double v : row) squares += v * v;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * static_cast<double>(weight[i]);
    }
    return x;
  }

  Rows Biased(Rows x, const std::string& name) const {
    const auto bias = model_.tensors.find(name);
    if (bias == model_.tensors.end()) return x;
    for (auto& row : x) {
      for (size_t i = 0; i < row.size(); ++i) row[i] += static_cast<double>(bias->second[i]);
    }
    return x;
  }

  // Each head of each row by itself through Norm.
  Rows HeadNorm(Rows x, const std::string& name) const {
    const auto weight = model_.tensors.find(name);
    if (weight == model_.tensors.end()) return x;
    for (auto& row : x) {
      for (size_t begin = 0; begin < row.size(); begin += model_.head_dim) {
        const auto from = row.begin() + static_cast<std::ptrdiff_t>(begin);
        const Rows head =
            Norm({{from, from + static_cast<std::ptrdiff_t>(model_.head_dim)}}, weight->second);
        std::copy(head[0].begin(), head[0].end(), from);
      }
    }
    return x;
  }

  Rows Linear(const Rows& x, const std::vector<float>& weight, size_t layer, LoraModule module,
              const std::vector<double>& adapter) const {
    const size_t in = x[0].size();
    const size_t out = weight.size() / in;
    Rows y(x.size(), std::vector<double>(out));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t o = 0; o < out; ++o) {
        for (size_t i = 0; i < in; ++i) {
          y[t][o] += static_cast<double>(weight[o * in + i]) * x[t][i];
        }
      }
    }
    if (adapter.empty() || !shape_.enabled[static_cast<size_t>(module)]) return y;
    const double* a = adapter.data() + shape_.OffsetA(static_cast<uint32_t>(layer), module);
    const double* b = adapter.data() + shape_.OffsetB(static_cast<uint32_t>(layer), module);
    const double scale = static_cast<double>(shape_.alpha) / shape_.rank;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t r = 0; r < shape_.rank; ++r) {
        double low = 0;
        for (size_t i = 0; i < in; ++i) low += a[r * in + i] * x[t][i];
        for (size_t o = 0; o < out; ++o) y[t][o] += scale * b[o * shape_.rank + r] * low;
      }
    }
    return y;
  }

  Rows Rotate(Rows x, size_t heads) const {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t head = 0; head < heads; ++head) {
        for (size_t i = 0; i < model_.head_dim / 2; ++i) {
          const bool adjacent = model_.architecture == "llama";
          double* of_head = x[t].data() + head * model_.head_dim;
          double& a = of_head[adjacent ? 2 * i : i];
          double& b = of_head[adjacent ? 2 * i + 1 : model_.head_dim / 2 + i];
          const double angle =
              static_cast<double>(t) * std::pow(1000.0, -2.0 * static_cast<double>(i) /
                                                            static_cast<double>(model_.head_dim));
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = rotated;
        }
      }
    }
    return x;
  }

  Rows Attention(const Rows& q, const Rows& k, const Rows& v) const {
    const size_t d = model_.head_dim;
    Rows out(q.size(), std::vector<double>(model_.Query()));
    for (size_t t = 0; t < q.size(); ++t) {
      for (size_t head = 0; head < model_.heads; ++head) {
        const size_t shared = head / (model_.heads / model_.kv_heads);
        std::vector<double> p;
        double total = 0;
        for (size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < d; ++i) score += q[t][head * d + i] * k[s][shared * d + i];
          p.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
          total += p.back();
        }
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < d; ++i)
            out[t][head * d + i] += p[s] / total * v[s][shared * d + i];
        }
      }
    }
    return out;
  }

  const TinyLlama& model_;
  const LoraShape& shape_;
};

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
