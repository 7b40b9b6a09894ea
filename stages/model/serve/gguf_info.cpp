#include "stages/model/serve/gguf_info.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "stages/model/serve/llama_runtime.h"

namespace nudge {
namespace {

using GgufContext = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

Error Unreadable(const std::string& path, const std::string& what, const std::string& remedy) {
  return {Code::kUnreadableFile, path + ": " + what, remedy};
}

Error Damaged(const std::string& path, const std::string& what) {
  return Unreadable(path, what, "download or convert the model again");
}

// gguf's getters abort on a field of another type: every read goes through these.
std::optional<std::string> Text(const gguf_context* file, const std::string& key) {
  const int64_t id = gguf_find_key(file, key.c_str());
  if (id < 0 || gguf_get_kv_type(file, id) != GGUF_TYPE_STRING) return std::nullopt;
  return gguf_get_val_str(file, id);
}

std::optional<uint32_t> Number(const gguf_context* file, const std::string& key) {
  const int64_t id = gguf_find_key(file, key.c_str());
  if (id < 0) return std::nullopt;
  switch (gguf_get_kv_type(file, id)) {
    case GGUF_TYPE_UINT32:
      return gguf_get_val_u32(file, id);
    case GGUF_TYPE_INT32:
      return static_cast<uint32_t>(std::max(0, gguf_get_val_i32(file, id)));
    case GGUF_TYPE_ARRAY:  // a number per layer: the first speaks for all
      if ((gguf_get_arr_type(file, id) == GGUF_TYPE_UINT32 ||
           gguf_get_arr_type(file, id) == GGUF_TYPE_INT32) &&
          gguf_get_arr_n(file, id) > 0) {
        return *static_cast<const uint32_t*>(gguf_get_arr_data(file, id));
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<bool> Flag(const gguf_context* file, const std::string& key) {
  const int64_t id = gguf_find_key(file, key.c_str());
  if (id < 0 || gguf_get_kv_type(file, id) != GGUF_TYPE_BOOL) return std::nullopt;
  return gguf_get_val_bool(file, id);
}

// An array of `type`, if it is there at all; `length` is compared if it is not 0.
std::optional<std::string> WrongArray(const gguf_context* file, const char* key, gguf_type type,
                                      size_t length) {
  const int64_t id = gguf_find_key(file, key);
  if (id < 0) return std::nullopt;
  if (gguf_get_kv_type(file, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(file, id) != type) {
    return std::string(key) + " is not a list of " + gguf_type_name(type);
  }
  if (length != 0 && gguf_get_arr_n(file, id) != length) {
    return std::string(key) + " has " + std::to_string(gguf_get_arr_n(file, id)) + " entries for " +
           std::to_string(length) + " tokens";
  }
  return std::nullopt;
}

// The tokenizer's lists, which llama.cpp reads without comparing their lengths.
std::optional<std::string> WrongTokenizer(const gguf_context* file, uint64_t* vocabulary) {
  if (auto wrong = WrongArray(file, "tokenizer.ggml.tokens", GGUF_TYPE_STRING, 0)) return wrong;
  const int64_t id = gguf_find_key(file, "tokenizer.ggml.tokens");
  if (id < 0) return "tokenizer.ggml.tokens is missing";
  *vocabulary = gguf_get_arr_n(file, id);
  if (*vocabulary == 0) return "tokenizer.ggml.tokens is empty";
  if (auto wrong = WrongArray(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, *vocabulary)) {
    return wrong;
  }
  if (auto wrong = WrongArray(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, *vocabulary)) {
    return wrong;
  }
  return WrongArray(file, "tokenizer.ggml.merges", GGUF_TYPE_STRING, 0);
}

// Counts tensors by type; says if one lies beyond the end of the file.
std::optional<std::string> ReadTensors(const gguf_context* file, GgufInfo* info) {
  std::map<std::string, uint32_t> matrices_of;
  for (int64_t id = 0; id < gguf_get_n_tensors(file); ++id) {
    const uint64_t begin = gguf_get_data_offset(file) + gguf_get_tensor_offset(file, id);
    const uint64_t bytes = gguf_get_tensor_size(file, id);
    if (begin > info->file_bytes || bytes > info->file_bytes - begin) {
      return "truncated: " + std::string(gguf_get_tensor_name(file, id)) + " ends at byte " +
             std::to_string(begin + bytes) + ", the file at " + std::to_string(info->file_bytes);
    }
    const std::string type = ggml_type_name(gguf_get_tensor_type(file, id));
    ++info->tensors_of[type];
    const int64_t* sizes = gguf_get_tensor_ne(file, id);
    info->weights += static_cast<uint64_t>(sizes[0] * sizes[1] * sizes[2] * sizes[3]);
    if (gguf_get_tensor_ne(file, id)[1] > 1) ++matrices_of[type];
  }
  uint32_t most = 0;
  for (const auto& [type, tensors] : matrices_of) {
    if (tensors > most) {
      most = tensors;
      info->quantisation = type;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<GgufInfo> ReadGgufInfo(const std::string& path) {
  InitialiseLlama();
  std::error_code failure;
  GgufInfo info;
  info.file_bytes = std::filesystem::file_size(path, failure);
  if (failure || !std::filesystem::is_regular_file(path, failure)) {
    return Unreadable(path, "there is no such file", "check the path, or run scripts/setup");
  }
  (void)TakeLlamaErrors();
  const GgufContext file(gguf_init_from_file(path.c_str(), {/*no_alloc=*/true, /*ctx=*/nullptr}),
                         &gguf_free);
  if (!file) {
    const std::string why = TakeLlamaErrors();
    if (IsWantOfMemory(why)) {
      return Unreadable(path, "no memory to load it",
                        "give the machine more, or name a smaller model");
    }
    return Damaged(path, "not a GGUF file, or a truncated one: " + why);
  }
  info.type = Text(file.get(), "general.type").value_or("model");
  const auto architecture = Text(file.get(), "general.architecture");
  if (!architecture) return Damaged(path, "general.architecture is missing or not text");
  info.architecture = *architecture;
  info.name = Text(file.get(), "general.name").value_or("");
  const std::string prefix = info.architecture + ".";
  info.context_tokens = Number(file.get(), prefix + "context_length").value_or(0);
  info.embedding_length = Number(file.get(), prefix + "embedding_length").value_or(0);
  info.layers = Number(file.get(), prefix + "block_count").value_or(0);
  info.heads = Number(file.get(), prefix + "attention.head_count").value_or(0);
  info.causal = Flag(file.get(), prefix + "attention.causal").value_or(true);
  info.pooling = Number(file.get(), prefix + "pooling_type");
  info.has_chat_template = Text(file.get(), "tokenizer.chat_template").has_value();
  info.query_prefix = Text(file.get(), "nudge.query_prefix");
  info.passage_prefix = Text(file.get(), "nudge.passage_prefix");
  info.form_of_sha256 = Text(file.get(), kFormOfKey);
  if (info.type == "model") {
    if (auto wrong = WrongTokenizer(file.get(), &info.vocabulary)) return Damaged(path, *wrong);
  }
  if (auto wrong = ReadTensors(file.get(), &info)) return Damaged(path, *wrong);
  return info;
}

}  // namespace nudge
