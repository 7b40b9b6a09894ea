#include "stages/model/trainer/frozen_weights.h"

#include <fcntl.h>
#include <ggml.h>
#include <gguf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>
#include <string>

#include "stages/model/trainer/kernels.h"

namespace nudge {

namespace {

// Carries an Error out of the nested steps of one load; never leaves this file.
struct LoadFailure {
  Error error;
};

constexpr uint64_t kMostLayers = 1024;
constexpr uint64_t kMostWidth = 1u << 20;

void CopyFloats(const void* from, float* to, int64_t count) {
  std::copy_n(static_cast<const float*>(from), count, to);
}

FileRows::Widen WidenOf(ggml_type type) {
  return type == GGML_TYPE_F32 ? CopyFloats : ggml_get_type_traits(type)->to_float;
}

StoredNumbers StoredAs(ggml_type type) {
  switch (type) {
    case GGML_TYPE_BF16:
      return StoredNumbers::kBf16;
    case GGML_TYPE_Q4_1:
      return StoredNumbers::kQ4_1;
    case GGML_TYPE_Q8_0:
      return StoredNumbers::kQ8_0;
    default:
      return StoredNumbers::kOther;
  }
}

struct FileBytes {
  std::shared_ptr<const void> bytes;  // null: there are none
  size_t count = 0;
};

// The whole file, for reading; nothing where it cannot be mapped.
FileBytes MapFile(const std::filesystem::path& path) {
  std::error_code failed;
  const auto count = static_cast<size_t>(std::filesystem::file_size(path, failed));
  const int file = failed ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  void* const memory = ::mmap(nullptr, count, PROT_READ, MAP_PRIVATE, file, 0);
  const int failure = errno;
  ::close(file);
  if (memory == MAP_FAILED && failure == ENOMEM) ThrowBadAlloc();
  if (memory == MAP_FAILED) return {};
  return {{memory, [count](void* mapped) { ::munmap(mapped, count); }}, count};
}

}  // namespace

class LlamaReader {
 public:
  LlamaReader(FileBytes file, std::string name, BaseForm form = {})
      : name_(std::move(name)), form_(form), file_(std::move(file)) {
    gguf_init_params params{};
    params.no_alloc = true;
    if (file_.bytes) header_.reset(gguf_init_from_buffer(file_.bytes.get(), file_.count, params));
    if (!header_) Unreadable("missing, truncated or not a GGUF file");
  }

  // The header alone, for Check.
  explicit LlamaReader(const std::filesystem::path& path) : name_(path.string()) {
    gguf_init_params params{};
    params.no_alloc = true;
    header_.reset(gguf_init_from_file(path.c_str(), params));
    std::error_code failed;
    file_.count = static_cast<size_t>(std::filesystem::file_size(path, failed));
    if (!header_ || failed) Unreadable("missing, truncated or not a GGUF file");
  }

  // Everything that the header can tell; nothing after this but damaged numbers is refused.
  LlamaShape Check() {
    architecture_ = Text("general.architecture");
    if (architecture_ != "llama" && architecture_ != "qwen2" && architecture_ != "qwen3") {
      Unsupported("training needs architecture llama, qwen2 or qwen3; this file is " +
                  architecture_ + ": it can be served, not trained");
    }
    const LlamaShape shape = ReadShape();
    RefuseVariants(shape);
    CheckHeads(shape);
    CheckTensors(shape);
    return shape;
  }

  std::shared_ptr<const FrozenWeights> Read() {
    auto weights = std::make_shared<FrozenWeights>();
    LlamaShape& shape = weights->shape_;
    shape = Check();
    if (form_.in_file) weights->bytes_ = file_.bytes;
    weights->form_ = form_;
    weights->architecture_ = architecture_;
    weights->embedding_ = ReadMatrix({"token_embd.weight"}, shape.vocabulary, shape.hidden);
    weights->untied_ = Has("output.weight");
    if (weights->untied_) {
      weights->head_ = ReadMatrix({"output.weight"}, shape.vocabulary, shape.hidden);
    }
    weights->final_norm_ = ReadVector("output_norm.weight", shape.hidden);
    weights->rope_factors_.assign(shape.head_dim / 2, 1.0f);
    if (Has("rope_freqs.weight")) {
      weights->rope_factors_ = ReadVector("rope_freqs.weight", shape.head_dim / 2);
    }
    for (size_t l = 0; l < shape.layers; ++l) weights->layers_.push_back(ReadLayer(l, shape));
    return weights;
  }

 private:
  [[noreturn]] void Unreadable(const std::string& what) const {
    throw LoadFailure{{Code::kUnreadableFile, name_ + ": " + what,
                       "fetch the model file again and compare its SHA-256"}};
  }

  [[noreturn]] void Unsupported(const std::string& what) const {
    throw LoadFailure{
        {Code::kUnsupportedModel, name_ + ": " + what,
         "serve this model with adapt off, or train one that nudge inspect says trains"}};
  }

  bool Has(const std::string& tensor) const {
    return gguf_find_tensor(header_.get(), tensor.c_str()) >= 0;
  }

  // A key of this architecture: "block_count" is llama.block_count.
  std::string Key(const std::string& name) const { return architecture_ + "." + name; }

  std::string Text(const std::string& key) const {
    const int64_t id = gguf_find_key(header_.get(), key.c_str());
    if (id < 0 || gguf_get_kv_type(header_.get(), id) != GGUF_TYPE_STRING) {
      Unreadable("key " + key + " is missing");
    }
    return gguf_get_val_str(header_.get(), id);
  }

  std::optional<uint64_t> Integer(const std::string& name, uint64_t most) const {
    const std::string key = Key(name);
    const int64_t id = gguf_find_key(header_.get(), key.c_str());
    if (id < 0) return std::nullopt;
    const gguf_type type = gguf_get_kv_type(header_.get(), id);
    if (type != GGUF_TYPE_UINT32) Unsupported(key + " is no single 32-bit number");
    const uint64_t value = gguf_get_val_u32(header_.get(), id);
    if (value > most) Unsupported(key + " " + std::to_string(value) + " is too large");
    return value;
  }

  size_t Size(const std::string& name, uint64_t most) const {
    const auto value = Integer(name, most);
    if (!value || *value == 0) Unreadable("key " + Key(name) + " is missing or 0");
    return *value;
  }

  std::optional<float> Number(const std::string& name) const {
    const std::string key = Key(name);
    const int64_t id = gguf_find_key(header_.get(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(header_.get(), id) != GGUF_TYPE_FLOAT32) {
      Unreadable("key " + key + " is not a 32-bit float");
    }
    return gguf_get_val_f32(header_.get(), id);
  }

  LlamaShape ReadShape() const {
    LlamaShape shape;
    shape.layers = Size("block_count", kMostLayers);
    shape.hidden = Size("embedding_length", kMostWidth);
    shape.heads = Size("attention.head_count", kMostWidth);
    shape.kv_heads = Integer("attention.head_count_kv", kMostWidth).value_or(shape.heads);
    shape.feed_forward = Size("feed_forward_length", kMostWidth);
    shape.context = Size("context_length", UINT32_MAX);
    const auto key_length = Integer("attention.key_length", kMostWidth);
    if (!key_length && shape.hidden % shape.heads != 0) {
      Unreadable("key " + Key("attention.head_count") + ": " + std::to_string(shape.heads) +
                 " heads do not divide " + Key("embedding_length") + " " +
                 std::to_string(shape.hidden) + ", and there is no " + Key("attention.key_length"));
    }
    shape.head_dim = key_length.value_or(shape.hidden / shape.heads);
    shape.rope_theta = Number("rope.freq_base").value_or(10000.0f);
    const auto epsilon = Number("attention.layer_norm_rms_epsilon");
    if (!epsilon) Unreadable("key " + Key("attention.layer_norm_rms_epsilon") + " is missing");
    shape.norm_epsilon = *epsilon;
    const int64_t embedding = gguf_find_tensor(header_.get(), "token_embd.weight");
    if (embedding < 0) Unreadable("tensor token_embd.weight is missing");
    const int64_t vocabulary = gguf_get_tensor_ne(header_.get(), embedding)[1];
    if (vocabulary < 1 || vocabulary > INT32_MAX) Unreadable("token_embd.weight has no rows");
    shape.vocabulary = static_cast<size_t>(vocabulary);
    shape.rotary_pairs = architecture_ == "llama" ? RotaryPairs::kAdjacent : RotaryPairs::kHalves;
    return shape;
  }

  void RefuseVariants(const LlamaShape& shape) const {
    if (Integer("expert_count", UINT32_MAX).value_or(0) != 0) {
      Unsupported("a model with experts can be served, not trained");
    }
    if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0) {
      Unsupported("the number of key heads does not divide the number of heads");
    }
    const uint64_t rotated = Integer("rope.dimension_count", kMostWidth).value_or(shape.head_dim);
    const uint64_t value_dim =
        Integer("attention.value_length", kMostWidth).value_or(shape.head_dim);
    if (shape.head_dim % 2 != 0 || rotated != shape.head_dim || value_dim != shape.head_dim) {
      Unsupported("training needs heads that are rotated as a whole, with keys as long as values");
    }
    const std::string scaling = Key("rope.scaling.type");
    if (gguf_find_key(header_.get(), scaling.c_str()) >= 0 && Text(scaling) != "none") {
      Unsupported("training knows no rope scaling of type " + Text(scaling));
    }
    for (const char* name : {"rope.scale_linear", "attention.scale"}) {
      const float value = Number(name).value_or(0);
      if (value != 0 && value != 1) Unsupported("training does not know " + Key(name));
    }
  }

  // Heads and their size are told by keys, their product by the tensors.
  void CheckHeads(const LlamaShape& shape) const {
    const auto check = [&](const char* key, size_t heads, const char* tensor) {
      const int64_t id = gguf_find_tensor(header_.get(), tensor);
      if (id < 0) return;  // CheckTensors says so
      const int64_t rows = gguf_get_tensor_ne(header_.get(), id)[1];
      if (rows == static_cast<int64_t>(heads * shape.head_dim)) return;
      Unreadable("key " + Key(key) + ": " + std::to_string(heads) + " heads of " +
                 std::to_string(shape.head_dim) + " numbers do not make the " +
                 std::to_string(rows) + " rows of tensor " + tensor);
    };
    check("attention.head_count", shape.heads, "blk.0.attn_q.weight");
    check("attention.head_count_kv", shape.kv_heads, "blk.0.attn_k.weight");
    check("attention.head_count_kv", shape.kv_heads, "blk.0.attn_v.weight");
    const int64_t norm = gguf_find_tensor(header_.get(), "blk.0.attn_q_norm.weight");
    if (!HasHeadNorms() || norm < 0) return;
    const int64_t width = gguf_get_tensor_ne(header_.get(), norm)[0];
    if (width == static_cast<int64_t>(shape.head_dim)) return;
    Unreadable("key " + Key("attention.key_length") + ": heads of " +
               std::to_string(shape.head_dim) +
               " numbers, but tensor blk.0.attn_q_norm.weight has " + std::to_string(width));
  }

  struct Expected {
    std::string name;
    size_t rows;
    size_t width;
  };

  std::vector<Expected> TensorsOf(const LlamaShape& shape) const {
    const size_t q = shape.QueryWidth();
    const size_t k = shape.KeyWidth();
    const size_t h = shape.hidden;
    const size_t f = shape.feed_forward;
    std::vector<Expected> tensors = {{"token_embd.weight", shape.vocabulary, h},
                                     {"output_norm.weight", 1, h}};
    if (Has("output.weight")) tensors.push_back({"output.weight", shape.vocabulary, h});
    if (Has("rope_freqs.weight")) tensors.push_back({"rope_freqs.weight", 1, shape.head_dim / 2});
    for (size_t l = 0; l < shape.layers; ++l) {
      const std::string block = "blk." + std::to_string(l) + ".";
      tensors.insert(tensors.end(), {{block + "attn_norm.weight", 1, h},
                                     {block + "attn_q.weight", q, h},
                                     {block + "attn_k.weight", k, h},
                                     {block + "attn_v.weight", k, h},
                                     {block + "attn_output.weight", h, q},
                                     {block + "ffn_norm.weight", 1, h},
                                     {block + "ffn_gate.weight", f, h},
                                     {block + "ffn_up.weight", f, h},
                                     {block + "ffn_down.weight", h, f}});
      if (HasBias(block)) {
        tensors.insert(tensors.end(), {{block + "attn_q.bias", 1, q},
                                       {block + "attn_k.bias", 1, k},
                                       {block + "attn_v.bias", 1, k}});
      }
      if (HasHeadNorms()) {
        tensors.insert(tensors.end(), {{block + "attn_q_norm.weight", 1, shape.head_dim},
                                       {block + "attn_k_norm.weight", 1, shape.head_dim}});
      }
    }
    return tensors;
  }

  // Biases come for q, k and v together.
  bool HasBias(const std::string& block) const { return Has(block + "attn_q.bias"); }
  bool HasHeadNorms() const { return architecture_ == "qwen3"; }

  // Every tensor that the model needs is there, whole and of a type that can be widened, and there
  // is no other.
  void CheckTensors(const LlamaShape& shape) const {
    std::set<std::string> known;
    for (const Expected& expected : TensorsOf(shape)) {
      known.insert(expected.name);
      CheckTensor(expected);
    }
    for (int64_t id = 0; id < gguf_get_n_tensors(header_.get()); ++id) {
      const std::string name = gguf_get_tensor_name(header_.get(), id);
      if (!known.contains(name))
        Unsupported("training does not know what tensor " + name + " does");
    }
  }

  void CheckTensor(const Expected& expected) const {
    const std::string& name = expected.name;
    const int64_t id = gguf_find_tensor(header_.get(), name.c_str());
    if (id < 0) Unreadable("tensor " + name + " is missing");
    const int64_t* extent = gguf_get_tensor_ne(header_.get(), id);
    if (extent[0] != static_cast<int64_t>(expected.width) ||
        extent[1] != static_cast<int64_t>(expected.rows) || extent[2] != 1 || extent[3] != 1) {
      Unreadable("tensor " + name + " is not " + std::to_string(expected.rows) + " x " +
                 std::to_string(expected.width));
    }
    const ggml_type type = gguf_get_tensor_type(header_.get(), id);
    if (type != GGML_TYPE_F32 && ggml_get_type_traits(type)->to_float == nullptr) {
      Unsupported("tensor " + name + " has type " + ggml_type_name(type));
    }
    const size_t begin = Begin(id);
    if (begin > file_.count || uint64_t{RowBytes(id)} * expected.rows > file_.count - begin) {
      Unreadable("truncated in tensor " + name);
    }
  }

  size_t Begin(int64_t id) const {
    return gguf_get_data_offset(header_.get()) + gguf_get_tensor_offset(header_.get(), id);
  }
  const uint8_t* Data(int64_t id) const {
    return static_cast<const uint8_t*>(file_.bytes.get()) + Begin(id);
  }
  size_t RowBytes(int64_t id) const {
    return ggml_row_size(gguf_get_tensor_type(header_.get(), id),
                         gguf_get_tensor_ne(header_.get(), id)[0]);
  }

  LlamaLayer ReadLayer(size_t index, const LlamaShape& shape) {
    const std::string block = "blk." + std::to_string(index) + ".";
    const size_t q = shape.QueryWidth();
    const size_t k = shape.KeyWidth();
    const size_t h = shape.hidden;
    const size_t f = shape.feed_forward;
    LlamaLayer layer;
    layer.attention_norm = ReadVector(block + "attn_norm.weight", h);
    layer.query_key_value =
        ReadMatrix({block + "attn_q.weight", block + "attn_k.weight", block + "attn_v.weight"},
                   shape.AttentionWidth(), h);
    if (HasBias(block)) {
      layer.attention_bias.resize(shape.AttentionWidth());
      const std::span<float> bias = layer.attention_bias;
      ReadInto(block + "attn_q.bias", bias.subspan(0, q));
      ReadInto(block + "attn_k.bias", bias.subspan(q, k));
      ReadInto(block + "attn_v.bias", bias.subspan(q + k, k));
    }
    if (HasHeadNorms()) {
      layer.query_norm = ReadVector(block + "attn_q_norm.weight", shape.head_dim);
      layer.key_norm = ReadVector(block + "attn_k_norm.weight", shape.head_dim);
    }
    layer.output = ReadMatrix({block + "attn_output.weight"}, h, q);
    layer.feed_norm = ReadVector(block + "ffn_norm.weight", h);
    layer.gate_up = ReadMatrix({block + "ffn_gate.weight", block + "ffn_up.weight"}, 2 * f, h);
    layer.down = ReadMatrix({block + "ffn_down.weight"}, h, f);
    return layer;
  }

  std::vector<float> ReadVector(const std::string& name, size_t width) {
    std::vector<float> values(width);
    ReadInto(name, values);
    return values;
  }

  void ReadInto(const std::string& name, std::span<float> values) {
    ReadRows(name, [&](size_t row, std::span<const float> numbers) {
      std::copy(numbers.begin(), numbers.end(), values.data() + row * numbers.size());
    });
  }

  // The rows of these tensors, one after the other.
  FrozenMatrix ReadMatrix(const std::vector<std::string>& names, size_t out, size_t in) {
    FrozenMatrix matrix(out, in, form_);
    size_t first = 0;
    for (const std::string& name : names) {
      const size_t rows = ReadRows(name, [&](size_t row, std::span<const float> numbers) {
        if (!form_.in_file) matrix.Write(first + row, numbers);
      });
      if (form_.in_file) matrix.Append(RowsOf(name, rows));
      first += rows;
    }
    return matrix;
  }

  FileRows RowsOf(const std::string& name, size_t rows) const {
    const int64_t id = gguf_find_tensor(header_.get(), name.c_str());
    const ggml_type type = gguf_get_tensor_type(header_.get(), id);
    return {.data = Data(id),
            .rows = rows,
            .row_bytes = RowBytes(id),
            .block = static_cast<size_t>(ggml_blck_size(type)),
            .block_bytes = ggml_type_size(type),
            .widen = WidenOf(type),
            .numbers = StoredAs(type)};
  }

  // Calls visit(row, numbers) for each row of a tensor that CheckTensor has seen. How many.
  template <class Visit>
  size_t ReadRows(const std::string& name, const Visit& visit) {
    const int64_t id = gguf_find_tensor(header_.get(), name.c_str());
    const FileRows::Widen widen = WidenOf(gguf_get_tensor_type(header_.get(), id));
    const int64_t* extent = gguf_get_tensor_ne(header_.get(), id);
    const size_t row_bytes = RowBytes(id);
    row_.resize(static_cast<size_t>(extent[0]));
    const auto rows = static_cast<size_t>(extent[1]);
    for (size_t row = 0; row < rows; ++row) {
      widen(Data(id) + row * row_bytes, row_.data(), extent[0]);
      if (!AllFinite(row_.data(), row_.size())) {
        Unreadable("tensor " + name + " has a number that is not finite");
      }
      visit(row, row_);
    }
    return rows;
  }

  struct FreeHeader {
    void operator()(gguf_context* context) const { gguf_free(context); }
  };

  std::string name_;  // of the file, for messages
  BaseForm form_;
  FileBytes file_;
  std::unique_ptr<gguf_context, FreeHeader> header_;
  std::string architecture_;
  std::vector<float> row_;  // as f32
};

namespace {

Error WithoutMemory(const std::string& name) {
  return {Code::kUnsupportedModel, name + ": does not fit in memory as f32",
          "train a smaller model, or give the machine more memory"};
}

}  // namespace

Result<std::shared_ptr<const FrozenWeights>> FrozenWeights::Load(const std::filesystem::path& path,
                                                                 BaseForm form) {
  try {
    FileBytes file = MapFile(path);
    return LoadBytes(std::move(file.bytes), file.count, path.string(), form);
  } catch (const std::bad_alloc&) {
    return WithoutMemory(path.string());
  }
}

Result<std::shared_ptr<const FrozenWeights>> FrozenWeights::LoadBytes(
    std::shared_ptr<const void> bytes, size_t count, const std::string& name, BaseForm form) {
  if (form.bf16() && !HasBf16Products()) {
    return Error{Code::kUnsupportedModel, "this processor has no bf16 products",
                 "set adapt.products to auto, f32 or portable"};
  }
  try {
    return LlamaReader({std::move(bytes), count}, name, form).Read();
  } catch (const LoadFailure& failure) {
    return failure.error;
  } catch (const std::bad_alloc&) {
    return WithoutMemory(name);
  }
}

Result<LlamaShape> FrozenWeights::Check(const std::filesystem::path& path) {
  try {
    return LlamaReader(path).Check();
  } catch (const LoadFailure& failure) {
    return failure.error;
  }
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
  size_t floats = final_norm_.size();
  size_t bytes = embedding_.bytes() + head_.bytes();
  for (const LlamaLayer& layer : layers_) {
    bytes += layer.query_key_value.bytes() + layer.output.bytes() + layer.gate_up.bytes() +
             layer.down.bytes();
    floats += layer.attention_norm.size() + layer.feed_norm.size() + layer.attention_bias.size() +
              layer.query_norm.size() + layer.key_norm.size();
  }
  return bytes + floats * sizeof(float);
}

}  // namespace nudge
