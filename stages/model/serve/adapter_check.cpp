#include "stages/model/serve/adapter_check.h"

#include <ggml.h>
#include <gguf.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "stages/model/serve/llama_runtime.h"
#include "stages/result.h"

namespace nudge {
namespace {

using GgufContext = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

std::optional<std::string> WrongText(const gguf_context* file, const char* key,
                                     const std::string& expected) {
  const int64_t id = gguf_find_key(file, key);
  if (id < 0 || gguf_get_kv_type(file, id) != GGUF_TYPE_STRING) {
    return std::string(key) + " is missing or not text";
  }
  const std::string found = gguf_get_val_str(file, id);
  if (found == expected) return std::nullopt;
  return std::string(key) + " is '" + found.substr(0, 64) + "', expected '" + expected + "'";
}

std::optional<std::string> WrongMetadata(const gguf_context* file, const AdapterBase& base) {
  if (auto wrong = WrongText(file, "general.type", "adapter")) return wrong;
  if (auto wrong = WrongText(file, "general.architecture", base.architecture)) return wrong;
  if (auto wrong = WrongText(file, "adapter.type", "lora")) return wrong;
  const int64_t alpha = gguf_find_key(file, "adapter.lora.alpha");
  if (alpha < 0 || gguf_get_kv_type(file, alpha) != GGUF_TYPE_FLOAT32 ||
      !std::isfinite(gguf_get_val_f32(file, alpha)) || gguf_get_val_f32(file, alpha) <= 0) {
    return "adapter.lora.alpha is missing or not a positive f32";
  }
  if (gguf_find_key(file, "adapter.alora.invocation_tokens") >= 0) {
    return "adapters that start at invocation tokens are not supported";
  }
  return std::nullopt;
}

// A number is not finite if all bits of its exponent are set.
template <class Word>
bool AllFinite(const std::byte* bytes, size_t count, Word exponent) {
  uint32_t bad = 0;
  for (size_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, bytes + i * sizeof(Word), sizeof(Word));
    bad |= static_cast<uint32_t>((word & exponent) == exponent);
  }
  return bad == 0;
}

std::optional<std::string> WrongNumbers(const gguf_context* file, int64_t id,
                                        std::span<const std::byte> gguf) {
  const std::string name = gguf_get_tensor_name(file, id);
  const size_t begin = gguf_get_data_offset(file) + gguf_get_tensor_offset(file, id);
  const size_t bytes = gguf_get_tensor_size(file, id);
  if (begin > gguf.size() || bytes > gguf.size() - begin) {
    return "truncated: " + name + " lies beyond the end";
  }
  const std::byte* numbers = gguf.data() + begin;
  bool finite = false;
  switch (gguf_get_tensor_type(file, id)) {
    case GGML_TYPE_F32:
      finite = AllFinite<uint32_t>(numbers, bytes / 4, 0x7f800000U);
      break;
    case GGML_TYPE_F16:
      finite = AllFinite<uint16_t>(numbers, bytes / 2, 0x7c00U);
      break;
    case GGML_TYPE_BF16:
      finite = AllFinite<uint16_t>(numbers, bytes / 2, 0x7f80U);
      break;
    default:
      return name + " has type " + ggml_type_name(gguf_get_tensor_type(file, id)) +
             ", expected f32, f16 or bf16";
  }
  if (!finite) return name + " has numbers that are not finite";
  return std::nullopt;
}

std::string Shape(const int64_t* sizes) {
  return "[" + std::to_string(sizes[1]) + ", " + std::to_string(sizes[0]) + "]";
}

// One tensor against the weight that it changes; its rank goes to `ranks` under the weight's name.
std::optional<std::string> WrongTensor(const gguf_context* file, int64_t id,
                                       const AdapterBase& base,
                                       std::map<std::string, std::array<int64_t, 2>>* ranks) {
  const std::string name = gguf_get_tensor_name(file, id);
  const bool is_a = name.ends_with(".lora_a");
  if (!is_a && !name.ends_with(".lora_b")) return name + " is not the A or B of a LoRA pair";
  const std::string weight = name.substr(0, name.size() - 7);
  const auto of_base = base.weights.find(weight);
  if (of_base == base.weights.end() || weight == "token_embd.weight") {
    return weight + " is not a weight that an adapter can change in this model";
  }
  const int64_t* sizes = gguf_get_tensor_ne(file, id);
  const int64_t expected = is_a ? of_base->second[0] : of_base->second[1];
  if (sizes[is_a ? 0 : 1] != expected || sizes[2] != 1 || sizes[3] != 1) {
    return name + " is " + Shape(sizes) + ", the weight " + Shape(of_base->second.data()) +
           ": an adapter of another model?";
  }
  (*ranks)[weight][is_a ? 0 : 1] = sizes[is_a ? 1 : 0];
  return std::nullopt;
}

}  // namespace

AdapterBase ReadAdapterBase(const std::string& model_path) {
  const GgufContext file(gguf_init_from_file(model_path.c_str(), {true, nullptr}), &gguf_free);
  if (!file) throw StartError(model_path + ": cannot be read again");
  AdapterBase base;
  const int64_t architecture = gguf_find_key(file.get(), "general.architecture");
  ENSURE(architecture >= 0);
  base.architecture = gguf_get_val_str(file.get(), architecture);
  for (int64_t id = 0; id < gguf_get_n_tensors(file.get()); ++id) {
    const int64_t* sizes = gguf_get_tensor_ne(file.get(), id);
    if (sizes[1] > 1 && sizes[2] == 1 && sizes[3] == 1) {
      base.weights[gguf_get_tensor_name(file.get(), id)] = {sizes[0], sizes[1]};
    }
  }
  return base;
}

std::optional<std::string> CheckAdapter(std::span<const std::byte> gguf, const AdapterBase& base) {
  (void)TakeLlamaErrors();
  const GgufContext file(gguf_init_from_buffer(gguf.data(), gguf.size(), {true, nullptr}),
                         &gguf_free);
  if (!file) return "not a GGUF file, or a truncated one: " + TakeLlamaErrors();
  if (auto wrong = WrongMetadata(file.get(), base)) return wrong;
  std::map<std::string, std::array<int64_t, 2>> ranks;
  for (int64_t id = 0; id < gguf_get_n_tensors(file.get()); ++id) {
    if (auto wrong = WrongTensor(file.get(), id, base, &ranks)) return wrong;
    if (auto wrong = WrongNumbers(file.get(), id, gguf)) return wrong;
  }
  if (ranks.empty()) return "it has no tensors";
  for (const auto& [weight, rank] : ranks) {
    if (rank[0] != rank[1] || rank[0] < 1) {
      return weight + ": A has rank " + std::to_string(rank[0]) + ", B " + std::to_string(rank[1]) +
             " (0: missing)";
    }
  }
  return std::nullopt;
}

}  // namespace nudge
