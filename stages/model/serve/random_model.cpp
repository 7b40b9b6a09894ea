#include "stages/model/serve/random_model.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>

#include "stages/hash.h"

namespace nudge {
namespace {

struct Shape {
  const char* name;
  uint32_t layers, hidden, heads, kv_heads, feed_forward;
};

constexpr Shape kShapes[] = {{"smollm2-135m", 30, 576, 9, 3, 1536},
                             {"smollm2-360m", 32, 960, 15, 5, 2560},
                             {"smollm2-1.7b", 24, 2048, 32, 32, 8192}};
constexpr uint32_t kHeadWidth = 64;
constexpr uint32_t kVocabulary = 49152;
constexpr uint32_t kContext = 8192;
constexpr char kChatTemplate[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

using GgufPointer = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using GgmlPointer = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

void DescribeShape(const Shape& shape, uint32_t layers, gguf_context* file) {
  const auto number = [file](const std::string& key, uint32_t value) {
    gguf_set_val_u32(file, ("llama." + key).c_str(), value);
  };
  gguf_set_val_str(file, "general.architecture", "llama");
  gguf_set_val_str(file, "general.name", (std::string(shape.name) + ", random weights").c_str());
  number("block_count", layers);
  number("context_length", kContext);
  number("embedding_length", shape.hidden);
  number("feed_forward_length", shape.feed_forward);
  number("attention.head_count", shape.heads);
  number("attention.head_count_kv", shape.kv_heads);
  number("rope.dimension_count", kHeadWidth);
  number("vocab_size", kVocabulary);
  gguf_set_val_f32(file, "llama.rope.freq_base", 100000.0f);
  gguf_set_val_f32(file, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

// Tokens of bytes and of a chat, and others that no text has.
void DescribeText(gguf_context* file) {
  // As llama.cpp numbers them.
  enum Type : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUnused = 5, kByte = 6 };
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  const auto add = [&](std::string text, Type type) {
    texts.push_back(std::move(text));
    types.push_back(type);
  };
  add("<unk>", kUnknown);
  for (const char* control : {"<s>", "</s>", "<|im_start|>", "<|im_end|>"}) add(control, kControl);
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", kByte);
  }
  add("\xE2\x96\x81", kNormal);  // a space
  while (texts.size() < kVocabulary) add("[" + std::to_string(texts.size()) + "]", kUnused);
  std::vector<const char*> tokens;
  for (const std::string& text : texts) tokens.push_back(text.c_str());
  const std::vector<float> scores(texts.size());
  gguf_set_val_str(file, "tokenizer.ggml.model", "llama");
  gguf_set_arr_str(file, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
  gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1);
  gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2);
  gguf_set_val_str(file, "tokenizer.chat_template", kChatTemplate);
}

// Without numbers.
std::vector<ggml_tensor*> AddTensors(const Shape& shape, uint32_t layers, ggml_context* memory,
                                     gguf_context* file) {
  std::vector<ggml_tensor*> tensors;
  const auto add = [&](const std::string& name, ggml_tensor* tensor) {
    ggml_set_name(tensor, name.c_str());
    gguf_add_tensor(file, tensor);
    tensors.push_back(tensor);
  };
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
    add(name, ggml_new_tensor_2d(memory, GGML_TYPE_BF16, in, out));
  };
  const auto norm = [&](const std::string& name) {
    add(name, ggml_new_tensor_1d(memory, GGML_TYPE_F32, shape.hidden));
  };
  const int64_t hidden = shape.hidden;
  const int64_t feed = shape.feed_forward;
  const int64_t query = int64_t{shape.heads} * kHeadWidth;
  const int64_t key = int64_t{shape.kv_heads} * kHeadWidth;
  matrix("token_embd.weight", kVocabulary, hidden);
  norm("output_norm.weight");
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    norm(block + "attn_norm.weight");
    matrix(block + "attn_q.weight", query, hidden);
    matrix(block + "attn_k.weight", key, hidden);
    matrix(block + "attn_v.weight", key, hidden);
    matrix(block + "attn_output.weight", hidden, query);
    norm(block + "ffn_norm.weight");
    matrix(block + "ffn_gate.weight", feed, hidden);
    matrix(block + "ffn_up.weight", feed, hidden);
    matrix(block + "ffn_down.weight", hidden, feed);
  }
  return tensors;
}

// Norms are 1; a matrix leaves the size of what it multiplies about as it is.
void WriteNumbers(const ggml_tensor& tensor, uint64_t seed, std::ostream& to) {
  const auto width = static_cast<size_t>(tensor.ne[0]);
  std::vector<float> row(width, 1.0f);
  if (tensor.type == GGML_TYPE_F32) {
    to.write(reinterpret_cast<const char*>(row.data()),
             static_cast<std::streamsize>(width * sizeof(float)));
    return;
  }
  const double most = std::sqrt(3.0 / static_cast<double>(width));
  std::vector<ggml_bf16_t> stored(width);
  for (int64_t r = 0; r < tensor.ne[1]; ++r) {
    for (size_t i = 0; i < width; ++i) {
      const double uniform = UniformAt(seed, static_cast<uint64_t>(r) * width + i);
      row[i] = static_cast<float>(most * (2 * uniform - 1));
    }
    ggml_fp32_to_bf16_row(row.data(), stored.data(), tensor.ne[0]);
    to.write(reinterpret_cast<const char*>(stored.data()),
             static_cast<std::streamsize>(width * sizeof(ggml_bf16_t)));
  }
}

}  // namespace

std::vector<std::string> RandomModelShapes() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

Result<Nothing> WriteRandomModel(const std::string& path, std::string_view shape, size_t layers) {
  const auto* const found =
      std::ranges::find_if(kShapes, [&](const Shape& known) { return known.name == shape; });
  if (found == std::end(kShapes)) {
    return Error{Code::kUnreadableFile, "no shape is named " + std::string(shape), "name another"};
  }
  const auto count =
      static_cast<uint32_t>(layers == 0 ? found->layers : std::min<size_t>(layers, found->layers));
  constexpr size_t kTensorsOfLayer = 9, kOtherTensors = 2;
  const GgmlPointer memory(
      ggml_init(
          {(count * kTensorsOfLayer + kOtherTensors) * ggml_tensor_overhead(), nullptr, true}),
      &ggml_free);
  const GgufPointer file(gguf_init_empty(), &gguf_free);
  DescribeShape(*found, count, file.get());
  DescribeText(file.get());
  const std::vector<ggml_tensor*> tensors = AddTensors(*found, count, memory.get(), file.get());
  std::vector<char> head(gguf_get_meta_size(file.get()));
  gguf_get_meta_data(file.get(), head.data());
  std::ofstream to(path, std::ios::binary);
  to.write(head.data(), static_cast<std::streamsize>(head.size()));
  for (size_t i = 0; i < tensors.size() && to; ++i) {
    const size_t offset = gguf_get_tensor_offset(file.get(), static_cast<int64_t>(i));
    to.seekp(static_cast<std::streamoff>(head.size() + offset));
    WriteNumbers(*tensors[i], i, to);
  }
  to.close();
  if (!to) return Error{Code::kUnreadableFile, path + ": cannot be written", "make room there"};
  return Nothing{};
}

}  // namespace nudge
