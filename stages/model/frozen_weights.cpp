#include "stages/model/frozen_weights.h"

#include <ggml.h>
#include <gguf.h>

#include <cstdio>
#include <optional>
#include <set>
#include <string>

#include "stages/model/kernels.h"

namespace nudge {

namespace {

// Carries an Error out of the nested steps of one load; never leaves this file.
struct LoadFailure {
  Error error;
};

constexpr uint64_t kMostLayers = 1024;
constexpr uint64_t kMostWidth = 1u << 20;

}  // namespace

class LlamaReader {
 public:
  explicit LlamaReader(const std::filesystem::path& path) : path_(path), file_(nullptr, &fclose) {
    gguf_init_params params{};
    params.no_alloc = true;
    header_.reset(gguf_init_from_file(path.c_str(), params));
    if (!header_) Unreadable("missing, truncated or not a GGUF file");
    file_.reset(std::fopen(path.c_str(), "rb"));
    std::error_code ignored;
    file_bytes_ = std::filesystem::file_size(path, ignored);
    if (!file_ || ignored) Unreadable("cannot be opened");
  }

  std::shared_ptr<const FrozenWeights> Read() {
    const std::string architecture = Text("general.architecture");
    if (architecture != "llama") {
      Unsupported("training needs architecture llama; this file is " + architecture +
                  ": it can be served, not trained");
    }
    auto weights = std::make_shared<FrozenWeights>();
    LlamaShape& shape = weights->shape_;
    shape = ReadShape();
    RefuseVariants(shape);

    weights->embedding_ = FrozenMatrix(shape.vocabulary, shape.hidden);
    ReadInto("token_embd.weight", shape.vocabulary, shape.hidden, weights->embedding_.values());
    weights->untied_ = gguf_find_tensor(header_.get(), "output.weight") >= 0;
    if (weights->untied_) {
      weights->head_ = FrozenMatrix(shape.vocabulary, shape.hidden);
      ReadInto("output.weight", shape.vocabulary, shape.hidden, weights->head_.values());
    }
    weights->final_norm_ = ReadVector("output_norm.weight", shape.hidden);
    weights->rope_factors_.assign(shape.head_dim / 2, 1.0f);
    if (gguf_find_tensor(header_.get(), "rope_freqs.weight") >= 0) {
      weights->rope_factors_ = ReadVector("rope_freqs.weight", shape.head_dim / 2);
    }
    for (size_t l = 0; l < shape.layers; ++l) weights->layers_.push_back(ReadLayer(l, shape));
    RefuseUnusedTensors();
    return weights;
  }

 private:
  [[noreturn]] void Unreadable(const std::string& what) const {
    throw LoadFailure{{Code::kUnreadableFile, path_.string() + ": " + what,
                       "fetch the model file again and compare its SHA-256"}};
  }

  [[noreturn]] void Unsupported(const std::string& what) const {
    throw LoadFailure{{Code::kUnsupportedModel, path_.string() + ": " + what,
                       "serve this model with adapt off, or train a plain llama model"}};
  }

  std::string Text(const char* key) const {
    const int64_t id = gguf_find_key(header_.get(), key);
    if (id < 0 || gguf_get_kv_type(header_.get(), id) != GGUF_TYPE_STRING) {
      Unreadable(std::string("key ") + key + " is missing");
    }
    return gguf_get_val_str(header_.get(), id);
  }

  std::optional<uint64_t> Integer(const char* key, uint64_t most) const {
    const int64_t id = gguf_find_key(header_.get(), key);
    if (id < 0) return std::nullopt;
    const gguf_type type = gguf_get_kv_type(header_.get(), id);
    if (type != GGUF_TYPE_UINT32) Unsupported(std::string(key) + " is no single 32-bit number");
    const uint64_t value = gguf_get_val_u32(header_.get(), id);
    if (value > most) Unsupported(std::string(key) + " " + std::to_string(value) + " is too large");
    return value;
  }

  size_t Size(const char* key, uint64_t most) const {
    const auto value = Integer(key, most);
    if (!value || *value == 0) Unreadable(std::string("key ") + key + " is missing or 0");
    return *value;
  }

  std::optional<float> Number(const char* key) const {
    const int64_t id = gguf_find_key(header_.get(), key);
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(header_.get(), id) != GGUF_TYPE_FLOAT32) {
      Unreadable(std::string("key ") + key + " is not a 32-bit float");
    }
    return gguf_get_val_f32(header_.get(), id);
  }

  LlamaShape ReadShape() const {
    LlamaShape shape;
    shape.layers = Size("llama.block_count", kMostLayers);
    shape.hidden = Size("llama.embedding_length", kMostWidth);
    shape.heads = Size("llama.attention.head_count", kMostWidth);
    shape.kv_heads = Integer("llama.attention.head_count_kv", kMostWidth).value_or(shape.heads);
    shape.feed_forward = Size("llama.feed_forward_length", kMostWidth);
    shape.context = Size("llama.context_length", UINT32_MAX);
    shape.head_dim =
        Integer("llama.attention.key_length", kMostWidth).value_or(shape.hidden / shape.heads);
    shape.rope_theta = Number("llama.rope.freq_base").value_or(10000.0f);
    const auto epsilon = Number("llama.attention.layer_norm_rms_epsilon");
    if (!epsilon) Unreadable("key llama.attention.layer_norm_rms_epsilon is missing");
    shape.norm_epsilon = *epsilon;
    const int64_t embedding = gguf_find_tensor(header_.get(), "token_embd.weight");
    if (embedding < 0) Unreadable("tensor token_embd.weight is missing");
    const int64_t vocabulary = gguf_get_tensor_ne(header_.get(), embedding)[1];
    if (vocabulary < 1 || vocabulary > INT32_MAX) Unreadable("token_embd.weight has no rows");
    shape.vocabulary = static_cast<size_t>(vocabulary);
    return shape;
  }

  void RefuseVariants(const LlamaShape& shape) const {
    if (Integer("llama.expert_count", UINT32_MAX).value_or(0) != 0) {
      Unsupported("a model with experts can be served, not trained");
    }
    if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0) {
      Unsupported("the number of key heads does not divide the number of heads");
    }
    const uint64_t rotated =
        Integer("llama.rope.dimension_count", kMostWidth).value_or(shape.head_dim);
    const uint64_t value_dim =
        Integer("llama.attention.value_length", kMostWidth).value_or(shape.head_dim);
    if (shape.head_dim % 2 != 0 || rotated != shape.head_dim || value_dim != shape.head_dim) {
      Unsupported("training needs heads that are rotated as a whole, with keys as long as values");
    }
    if (gguf_find_key(header_.get(), "llama.rope.scaling.type") >= 0 &&
        Text("llama.rope.scaling.type") != "none") {
      Unsupported("training knows no rope scaling of type " + Text("llama.rope.scaling.type"));
    }
    for (const char* key : {"llama.rope.scale_linear", "llama.attention.scale"}) {
      const float value = Number(key).value_or(0);
      if (value != 0 && value != 1) Unsupported(std::string("training does not know ") + key);
    }
  }

  LlamaLayer ReadLayer(size_t index, const LlamaShape& shape) {
    const std::string block = "blk." + std::to_string(index) + ".";
    const size_t q = shape.QueryWidth();
    const size_t k = shape.KeyWidth();
    const size_t h = shape.hidden;
    const size_t f = shape.feed_forward;
    LlamaLayer layer;
    layer.attention_norm = ReadVector(block + "attn_norm.weight", h);
    layer.query_key_value = FrozenMatrix(shape.AttentionWidth(), h);
    const std::span<float> qkv = layer.query_key_value.values();
    ReadInto(block + "attn_q.weight", q, h, qkv.subspan(0, q * h));
    ReadInto(block + "attn_k.weight", k, h, qkv.subspan(q * h, k * h));
    ReadInto(block + "attn_v.weight", k, h, qkv.subspan((q + k) * h, k * h));
    layer.output = FrozenMatrix(h, q);
    ReadInto(block + "attn_output.weight", h, q, layer.output.values());
    layer.feed_norm = ReadVector(block + "ffn_norm.weight", h);
    layer.gate_up = FrozenMatrix(2 * f, h);
    ReadInto(block + "ffn_gate.weight", f, h, layer.gate_up.values().subspan(0, f * h));
    ReadInto(block + "ffn_up.weight", f, h, layer.gate_up.values().subspan(f * h, f * h));
    layer.down = FrozenMatrix(h, f);
    ReadInto(block + "ffn_down.weight", h, f, layer.down.values());
    return layer;
  }

  std::vector<float> ReadVector(const std::string& name, size_t width) {
    std::vector<float> values(width);
    ReadInto(name, 1, width, values);
    return values;
  }

  // Reads a tensor as f32, a chunk of whole rows at a time.
  void ReadInto(const std::string& name, size_t rows, size_t width, std::span<float> values) {
    const int64_t id = gguf_find_tensor(header_.get(), name.c_str());
    if (id < 0) Unreadable("tensor " + name + " is missing");
    used_.insert(name);
    const int64_t* extent = gguf_get_tensor_ne(header_.get(), id);
    if (extent[0] != static_cast<int64_t>(width) || extent[1] != static_cast<int64_t>(rows) ||
        extent[2] != 1 || extent[3] != 1) {
      Unreadable("tensor " + name + " is not " + std::to_string(rows) + " x " +
                 std::to_string(width));
    }
    const ggml_type type = gguf_get_tensor_type(header_.get(), id);
    const auto to_float = ggml_get_type_traits(type)->to_float;
    if (type != GGML_TYPE_F32 && to_float == nullptr) {
      Unsupported("tensor " + name + " has type " + ggml_type_name(type));
    }
    const size_t row_bytes = ggml_row_size(type, static_cast<int64_t>(width));
    const size_t begin =
        gguf_get_data_offset(header_.get()) + gguf_get_tensor_offset(header_.get(), id);
    if (begin > file_bytes_ || row_bytes * rows > file_bytes_ - begin ||
        fseeko(file_.get(), static_cast<off_t>(begin), SEEK_SET) != 0) {
      Unreadable("truncated in tensor " + name);
    }
    buffer_.resize(row_bytes);
    for (size_t row = 0; row < rows; ++row) {
      float* to = values.data() + row * width;
      void* from = type == GGML_TYPE_F32 ? static_cast<void*>(to) : buffer_.data();
      if (std::fread(from, 1, row_bytes, file_.get()) != row_bytes) {
        Unreadable("truncated in tensor " + name);
      }
      if (type != GGML_TYPE_F32) to_float(from, to, static_cast<int64_t>(width));
    }
    if (!AllFinite(values.data(), values.size())) {
      Unreadable("tensor " + name + " has a number that is not finite");
    }
  }

  void RefuseUnusedTensors() const {
    for (int64_t id = 0; id < gguf_get_n_tensors(header_.get()); ++id) {
      const std::string name = gguf_get_tensor_name(header_.get(), id);
      if (!used_.contains(name))
        Unsupported("training does not know what tensor " + name + " does");
    }
  }

  struct FreeHeader {
    void operator()(gguf_context* context) const { gguf_free(context); }
  };

  std::filesystem::path path_;
  std::unique_ptr<gguf_context, FreeHeader> header_;
  std::unique_ptr<FILE, int (*)(FILE*)> file_;
  uintmax_t file_bytes_ = 0;
  std::vector<uint8_t> buffer_;
  std::set<std::string> used_;
};

Result<std::shared_ptr<const FrozenWeights>> FrozenWeights::Load(
    const std::filesystem::path& path) {
  try {
    return LlamaReader(path).Read();
  } catch (const LoadFailure& failure) {
    return failure.error;
  } catch (const std::bad_alloc&) {
    return Error{Code::kUnsupportedModel, path.string() + ": does not fit in memory as f32",
                 "train a smaller model, or give the machine more memory"};
  }
}

std::span<const float> FrozenWeights::Embedding(int32_t token) const {
  return embedding_.values().subspan(static_cast<size_t>(token) * shape_.hidden, shape_.hidden);
}

LoraShape FrozenWeights::AdapterShape(uint32_t rank, float alpha,
                                      const std::array<bool, kLoraModules>& enabled) const {
  const auto hidden = static_cast<uint32_t>(shape_.hidden);
  const auto query = static_cast<uint32_t>(shape_.QueryWidth());
  const auto key = static_cast<uint32_t>(shape_.KeyWidth());
  const auto feed = static_cast<uint32_t>(shape_.feed_forward);
  LoraShape shape;
  shape.layers = static_cast<uint32_t>(shape_.layers);
  shape.rank = rank;
  shape.alpha = alpha;
  shape.in = {hidden, hidden, hidden, query, hidden, hidden, feed};
  shape.out = {query, key, key, hidden, feed, feed, hidden};
  shape.enabled = enabled;
  return shape;
}

size_t FrozenWeights::bytes() const {
  size_t floats = embedding_.values().size() + head_.values().size() + final_norm_.size();
  for (const LlamaLayer& layer : layers_) {
    floats += layer.query_key_value.values().size() + layer.output.values().size() +
              layer.gate_up.values().size() + layer.down.values().size() +
              layer.attention_norm.size() + layer.feed_norm.size();
  }
  return floats * sizeof(float);
}

}  // namespace nudge
