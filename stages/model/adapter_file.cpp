#include "stages/model/adapter_file.h"

#include <ggml-cpu.h>
#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "stages/hash.h"
#include "stages/model/safetensors.h"

namespace nudge {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kFormat = 1;
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxRank = 64;
constexpr uint32_t kMaxDimension = uint32_t{1} << 20;
constexpr size_t kMaxText = 1024;                 // bytes of a text in the manifest
constexpr size_t kMaxMetadata = size_t{1} << 20;  // bytes of a GGUF's keys, beside its tensors
constexpr size_t kMaxTensorOverhead = 256;        // bytes of a tensor's name, shape and padding
constexpr const char* kChecksumKey = "nudge.checksum";  // the first key, so that its place is known

// The digits of the checksum: after magic, version and two counts (24 bytes), the key with its
// length, the value's type and its length.
constexpr size_t kChecksumSize = 64;
constexpr size_t kChecksumOffset = 24 + 8 + std::string_view(kChecksumKey).size() + 4 + 8;

struct ModuleName {
  const char* gguf;
  const char* peft;
  const char* target;
};
constexpr std::array<ModuleName, kLoraModules> kModules{
    {{"attn_q", "self_attn.q_proj", "q_proj"},
     {"attn_k", "self_attn.k_proj", "k_proj"},
     {"attn_v", "self_attn.v_proj", "v_proj"},
     {"attn_output", "self_attn.o_proj", "o_proj"},
     {"ffn_gate", "mlp.gate_proj", "gate_proj"},
     {"ffn_up", "mlp.up_proj", "up_proj"},
     {"ffn_down", "mlp.down_proj", "down_proj"}}};

// One matrix of the adapter: A is [rank, in], B is [out, rank].
struct Matrix {
  uint32_t layer = 0;
  size_t module = 0;
  bool is_b = false;
  size_t offset = 0;  // of its first value in LoraWeights::values
  uint32_t rows = 0;
  uint32_t columns = 0;

  size_t size() const { return size_t{rows} * columns; }
  std::string GgufName() const {
    return "blk." + std::to_string(layer) + "." + kModules[module].gguf + ".weight" +
           (is_b ? ".lora_b" : ".lora_a");
  }
  std::string PeftName() const {
    return "base_model.model.model.layers." + std::to_string(layer) + "." + kModules[module].peft +
           (is_b ? ".lora_B.weight" : ".lora_A.weight");
  }
};

// All matrices, in the order of their values.
std::vector<Matrix> MatricesOf(const LoraShape& shape) {
  std::vector<Matrix> matrices;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      if (!shape.enabled[m]) continue;
      const auto module = static_cast<LoraModule>(m);
      matrices.push_back({layer, m, false, shape.OffsetA(layer, module), shape.rank, shape.in[m]});
      matrices.push_back({layer, m, true, shape.OffsetB(layer, module), shape.out[m], shape.rank});
    }
  }
  return matrices;
}

Error Wrong(std::string message, std::string remedy = "") {
  return {Code::kWrongAdapter, "adapter: " + std::move(message), std::move(remedy)};
}

Error Unreadable(std::string message) {
  return {Code::kUnreadableFile, "adapter: " + std::move(message),
          "copy the snapshot's adapter.gguf again and compare its SHA-256 with the one in its "
          "manifest.json"};
}

std::optional<Error> CheckShape(const LoraShape& shape) {
  if (shape.layers < 1 || shape.layers > kMaxLayers) {
    return Wrong(std::to_string(shape.layers) + " layers are outside 1..1024");
  }
  if (shape.rank < 1 || shape.rank > kMaxRank) {
    return Wrong("rank " + std::to_string(shape.rank) + " is outside 1..64");
  }
  if (!std::isfinite(shape.alpha) || shape.alpha <= 0) {
    return Wrong("alpha " + std::to_string(shape.alpha) + " is not a finite number above 0");
  }
  bool any = false;
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (!shape.enabled[m]) continue;
    any = true;
    if (std::min(shape.in[m], shape.out[m]) < 1 ||
        std::max(shape.in[m], shape.out[m]) > kMaxDimension) {
      return Wrong(std::string(kModules[m].gguf) + " is " + std::to_string(shape.out[m]) + " x " +
                   std::to_string(shape.in[m]) + ", outside 1..1048576");
    }
  }
  if (!any) return Wrong("no module is enabled");
  return std::nullopt;
}

bool IsDigest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::optional<Error> CheckManifest(const AdapterManifest& manifest) {
  const auto is_text = [](const std::string& text, size_t least) {
    return text.size() >= least && text.size() <= kMaxText && text.find('\0') == std::string::npos;
  };
  if (!is_text(manifest.tenant, 1))
    return Wrong("the tenant's name is empty, too long or has a NUL");
  if (!is_text(manifest.base_architecture, 1)) return Wrong("the base's architecture is no name");
  if (!is_text(manifest.base_name, 0)) return Wrong("the base's name is too long or has a NUL");
  if (!IsDigest(manifest.digest)) return Wrong("digest is not 64 hex digits");
  if (!manifest.parent_digest.empty() && manifest.parent_digest != "base" &&
      !IsDigest(manifest.parent_digest)) {
    return Wrong("parent_digest is neither 64 hex digits nor \"base\" nor empty");
  }
  if (!IsDigest(manifest.base_sha256)) return Wrong("base_sha256 is not 64 hex digits");
  return std::nullopt;
}

std::optional<Error> CheckWeights(const LoraWeights& weights) {
  if (auto error = CheckShape(weights.shape)) return error;
  if (weights.values.size() != weights.shape.Size()) {
    return Wrong(std::to_string(weights.values.size()) + " values for a shape of " +
                 std::to_string(weights.shape.Size()));
  }
  return std::nullopt;
}

Error NotFinite() {
  return Wrong("a value is not finite, or beyond what f16 holds (65504)",
               "roll back to a version from before the training diverged");
}

// An exponent of ones is infinity or NaN. No early exit: the loops vectorise.
bool AllFinite(std::span<const float> values) {
  uint32_t bad = 0;
  for (float value : values) {
    bad |= (std::bit_cast<uint32_t>(value) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  }
  return bad == 0;
}
bool AllFinite(std::span<const ggml_fp16_t> values) {
  uint32_t bad = 0;
  for (ggml_fp16_t value : values) bad |= (value & 0x7c00u) == 0x7c00u ? 1u : 0u;
  return bad == 0;
}

// ggml's vectorised conversions, which round to nearest even. Without F16C they look values up in
// tables that ggml_cpu_init fills.
void FillTablesOnce() {
  [[maybe_unused]] static const bool filled = (ggml_cpu_init(), true);
}
void ToHalves(std::span<const float> values, ggml_fp16_t* halves) {
  FillTablesOnce();
  ggml_cpu_fp32_to_fp16(values.data(), halves, static_cast<int64_t>(values.size()));
}
void ToFloats(std::span<const ggml_fp16_t> halves, float* values) {
  FillTablesOnce();
  ggml_cpu_fp16_to_fp32(halves.data(), values, static_cast<int64_t>(halves.size()));
}

// Writes the values in a file's precision to `out`, which has room; false if one is not finite.
bool Store(AdapterPrecision precision, std::span<const float> values, std::byte* out) {
  if (precision == AdapterPrecision::kF32) {
    std::memcpy(out, values.data(), values.size_bytes());
    return AllFinite(values);
  }
  auto* halves = reinterpret_cast<ggml_fp16_t*>(out);
  ToHalves(values, halves);
  return AllFinite(std::span<const ggml_fp16_t>(halves, values.size()));
}

size_t ValueSize(AdapterPrecision precision) {
  return precision == AdapterPrecision::kF32 ? sizeof(float) : sizeof(ggml_fp16_t);
}

struct FreeGguf {
  void operator()(gguf_context* context) const { gguf_free(context); }
};
using Gguf = std::unique_ptr<gguf_context, FreeGguf>;

struct FreeGgml {
  void operator()(ggml_context* context) const { ggml_free(context); }
};

void SetKeys(gguf_context* gguf, const LoraWeights& weights, const AdapterManifest& manifest,
             const std::string& values_digest) {
  const auto text = [&](const char* key, const std::string& value) {
    gguf_set_val_str(gguf, key, value.c_str());
  };
  text(kChecksumKey, std::string(kChecksumSize, '0'));
  text("general.architecture", manifest.base_architecture);
  text("general.type", "adapter");
  text("adapter.type", "lora");
  gguf_set_val_f32(gguf, "adapter.lora.alpha", weights.shape.alpha);
  gguf_set_val_u32(gguf, "nudge.format", kFormat);
  text("nudge.values_digest", values_digest);
  text("nudge.tenant", manifest.tenant);
  gguf_set_val_u32(gguf, "nudge.version", manifest.version);
  text("nudge.digest", manifest.digest);
  text("nudge.parent_digest", manifest.parent_digest);
  text("nudge.base.sha256", manifest.base_sha256);
  text("nudge.base.name", manifest.base_name);
  gguf_set_val_u32(gguf, "nudge.base.head_size", manifest.base_head_size);
  gguf_set_val_u64(gguf, "nudge.steps", manifest.steps);
  gguf_set_val_u64(gguf, "nudge.examples", manifest.examples);
  gguf_set_val_u64(gguf, "nudge.corrections", manifest.corrections);
  gguf_set_val_u64(gguf, "nudge.ups", manifest.ups);
  gguf_set_val_u64(gguf, "nudge.downs", manifest.downs);
}

// Describes the tensors to `gguf`, which then knows where the bytes of each belong.
void AddTensors(gguf_context* gguf, std::span<const Matrix> matrices, AdapterPrecision precision) {
  const std::unique_ptr<ggml_context, FreeGgml> tensors(
      ggml_init({.mem_size = matrices.size() * ggml_tensor_overhead(),
                 .mem_buffer = nullptr,
                 .no_alloc = true}));
  ENSURE(tensors);
  const ggml_type type = precision == AdapterPrecision::kF32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  for (const Matrix& matrix : matrices) {
    ggml_tensor* tensor = ggml_new_tensor_2d(tensors.get(), type, matrix.columns, matrix.rows);
    ggml_set_name(tensor, matrix.GgufName().c_str());
    gguf_add_tensor(gguf, tensor);
  }
}

std::string Checksum(std::string bytes) {
  bytes.replace(kChecksumOffset, kChecksumSize, kChecksumSize, '0');
  return Sha256Hex(bytes);
}

// ---- Reading ------------------------------------------------------------------------------------

std::optional<std::string> TextOf(const gguf_context* gguf, const char* key) {
  const int64_t id = gguf_find_key(gguf, key);
  if (id < 0 || gguf_get_kv_type(gguf, id) != GGUF_TYPE_STRING) return std::nullopt;
  return gguf_get_val_str(gguf, id);
}
std::optional<uint64_t> NumberOf(const gguf_context* gguf, const char* key) {
  const int64_t id = gguf_find_key(gguf, key);
  if (id < 0) return std::nullopt;
  if (gguf_get_kv_type(gguf, id) == GGUF_TYPE_UINT32) return gguf_get_val_u32(gguf, id);
  if (gguf_get_kv_type(gguf, id) == GGUF_TYPE_UINT64) return gguf_get_val_u64(gguf, id);
  return std::nullopt;
}

// The manifest and, by its values_digest, what the weights must turn out to be.
Result<ImportedAdapter> ReadManifest(const gguf_context* gguf) {
  std::string missing;
  const auto text = [&](const char* key) {
    auto value = TextOf(gguf, key);
    if (!value && missing.empty()) missing = key;
    return value.value_or("");
  };
  const auto number = [&](const char* key, uint64_t most = UINT64_MAX) {
    const auto value = NumberOf(gguf, key);
    if ((!value || *value > most) && missing.empty()) missing = key;
    return value.value_or(0);
  };
  const auto small = [&](const char* key) {
    return static_cast<uint32_t>(number(key, UINT32_MAX));
  };
  if (text("general.type") != "adapter" || text("adapter.type") != "lora") {
    return Unreadable("the GGUF is not a LoRA adapter");
  }
  const uint32_t format = small("nudge.format");
  if (missing.empty() && format != kFormat) {
    return Error{
        Code::kUnreadableFile,
        "adapter: format " + std::to_string(format) + " is not known, this nudge reads format 1",
        "import it with the nudge that wrote it"};
  }
  ImportedAdapter read;
  read.values_digest = text("nudge.values_digest");
  AdapterManifest& manifest = read.manifest;
  manifest.tenant = text("nudge.tenant");
  manifest.version = small("nudge.version");
  manifest.digest = text("nudge.digest");
  manifest.parent_digest = text("nudge.parent_digest");
  manifest.base_sha256 = text("nudge.base.sha256");
  manifest.base_architecture = text("general.architecture");
  manifest.base_name = text("nudge.base.name");
  manifest.base_head_size = small("nudge.base.head_size");
  manifest.steps = number("nudge.steps");
  manifest.examples = number("nudge.examples");
  manifest.corrections = number("nudge.corrections");
  manifest.ups = number("nudge.ups");
  manifest.downs = number("nudge.downs");
  if (!missing.empty())
    return Unreadable("key " + missing + " is missing or not what it should be");
  if (auto error = CheckManifest(manifest)) return *error;
  return read;
}

std::optional<Error> CheckBase(const gguf_context* gguf, const AdapterManifest& manifest,
                               const AdapterExpectation& expected) {
  if (manifest.base_architecture != expected.base_architecture) {
    return Wrong("made for a base of architecture " + manifest.base_architecture +
                     ", this one is " + expected.base_architecture,
                 "import it where its base model runs");
  }
  if (manifest.base_sha256 != expected.base_sha256) {
    return Wrong("made for the base model file with SHA-256 " + manifest.base_sha256 +
                     ", this one is " + expected.base_sha256,
                 "import it where its base model runs");
  }
  const int64_t alpha = gguf_find_key(gguf, "adapter.lora.alpha");
  if (alpha < 0 || gguf_get_kv_type(gguf, alpha) != GGUF_TYPE_FLOAT32) {
    return Unreadable("key adapter.lora.alpha is missing or not what it should be");
  }
  if (gguf_get_val_f32(gguf, alpha) != expected.shape.alpha) {
    return Wrong("alpha is " + std::to_string(gguf_get_val_f32(gguf, alpha)) +
                     ", this configuration's is " + std::to_string(expected.shape.alpha),
                 "configure the alpha that the adapter was trained with");
  }
  return std::nullopt;
}

std::string Dimensions(uint64_t columns, uint64_t rows) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

// The tensor's place in the file, after all that can be wrong with it.
Result<std::span<const std::byte>> FindTensor(const gguf_context* gguf, const Matrix& matrix,
                                              std::string_view bytes, ggml_type* type) {
  const std::string name = matrix.GgufName();
  const int64_t id = gguf_find_tensor(gguf, name.c_str());
  if (id < 0) return Wrong("tensor " + name + " is missing", "import one with the same modules");
  const int64_t* shape = gguf_get_tensor_ne(gguf, id);
  if (shape[0] != matrix.columns || shape[1] != matrix.rows || shape[2] != 1 || shape[3] != 1) {
    return Wrong("tensor " + name + " is " +
                     Dimensions(static_cast<uint64_t>(shape[0]), static_cast<uint64_t>(shape[1])) +
                     ", expected " + Dimensions(matrix.columns, matrix.rows),
                 "configure the rank and modules that the adapter was trained with");
  }
  *type = gguf_get_tensor_type(gguf, id);
  if (*type != GGML_TYPE_F16 && *type != GGML_TYPE_F32) {
    return Wrong("tensor " + name + " is neither f16 nor f32", "export the snapshot again");
  }
  const size_t size = matrix.size() * ggml_type_size(*type);
  const size_t data = gguf_get_data_offset(gguf);
  const size_t offset = gguf_get_tensor_offset(gguf, id);
  if (data > bytes.size() || offset > bytes.size() - data || size > bytes.size() - data - offset) {
    return Unreadable("tensor " + name + " ends after the file");
  }
  return std::as_bytes(std::span(bytes.substr(data + offset, size)));
}

Result<LoraWeights> ReadWeights(const gguf_context* gguf, std::string_view bytes,
                                const LoraShape& shape) {
  const std::vector<Matrix> matrices = MatricesOf(shape);
  LoraWeights weights{shape, std::vector<float>(shape.Size())};
  std::vector<ggml_fp16_t> halves;
  for (const Matrix& matrix : matrices) {
    ggml_type type = GGML_TYPE_F16;
    const auto data = FindTensor(gguf, matrix, bytes, &type);
    if (!data) return data.error();
    float* values = weights.values.data() + matrix.offset;
    if (type == GGML_TYPE_F32) {
      std::memcpy(values, data->data(), data->size());
    } else {
      halves.resize(matrix.size());  // a copy, since tensors of any file may be unaligned
      std::memcpy(halves.data(), data->data(), data->size());
      ToFloats(halves, values);
    }
  }
  const int64_t count = gguf_get_n_tensors(gguf);
  if (static_cast<size_t>(count) != matrices.size()) {
    return Wrong(std::to_string(count) + " tensors, expected " + std::to_string(matrices.size()),
                 "configure the modules that the adapter was trained with");
  }
  if (!AllFinite(weights.values)) return NotFinite();
  return weights;
}

// ---- PEFT ---------------------------------------------------------------------------------------

// Rows of a query or key B from GGUF's order to Hugging Face's. The converter to GGUF turns row
// half * h + i of a head, h = head size / 2, into row 2 i + half: rotary pairs become neighbours.
void Uninterleave(std::span<std::byte> data, size_t row_bytes, size_t head_size) {
  const size_t head_bytes = head_size * row_bytes;
  std::vector<std::byte> head(head_bytes);
  for (size_t start = 0; start < data.size(); start += head_bytes) {
    std::memcpy(head.data(), &data[start], head_bytes);
    for (size_t row = 0; row < head_size; ++row) {
      const size_t half = row / (head_size / 2);
      const size_t i = row % (head_size / 2);
      std::memcpy(&data[start + row * row_bytes], &head[(2 * i + half) * row_bytes], row_bytes);
    }
  }
}

bool IsInterleaved(const Matrix& matrix) {
  const auto module = static_cast<LoraModule>(matrix.module);
  return matrix.is_b && (module == LoraModule::kQuery || module == LoraModule::kKey);
}

Result<std::string> PeftConfig(const LoraShape& shape, const AdapterManifest& manifest) {
  using Json = nlohmann::ordered_json;
  Json alpha = shape.alpha;
  if (shape.alpha == std::floor(shape.alpha) && shape.alpha < 1e9F) {
    alpha = static_cast<int64_t>(shape.alpha);  // what Hugging Face's own configurations hold
  }
  Json targets = Json::array();
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (shape.enabled[m]) targets.push_back(kModules[m].target);
  }
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", manifest.base_name},
                       {"r", shape.rank},
                       {"lora_alpha", alpha},
                       {"lora_dropout", 0.0},
                       {"target_modules", targets},
                       {"modules_to_save", nullptr},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"use_rslora", false},
                       {"use_dora", false},
                       {"init_lora_weights", true},
                       {"inference_mode", true}};
  try {
    return config.dump(2) + "\n";
  } catch (const Json::type_error&) {
    return Wrong("the base's name is not UTF-8");
  }
}

}  // namespace

Result<std::string> EncodeGguf(const LoraWeights& weights, const AdapterManifest& manifest,
                               GgufOptions options) {
  if (auto error = CheckWeights(weights)) return *error;
  if (auto error = CheckManifest(manifest)) return *error;
  std::string values_digest;
  if (options.sealed) {
    const auto rounded = RoundTo(options.precision, weights);
    if (!rounded) return rounded.error();
    values_digest = Digest(*rounded);
  }
  const Gguf gguf(gguf_init_empty());
  const std::vector<Matrix> matrices = MatricesOf(weights.shape);
  SetKeys(gguf.get(), weights, manifest, values_digest);
  AddTensors(gguf.get(), matrices, options.precision);

  const size_t data = gguf_get_meta_size(gguf.get());
  const auto last = static_cast<int64_t>(matrices.size()) - 1;
  const size_t end =
      data + gguf_get_tensor_offset(gguf.get(), last) + gguf_get_tensor_size(gguf.get(), last);
  const size_t alignment = gguf_get_alignment(gguf.get());
  std::string bytes((end + alignment - 1) / alignment * alignment, '\0');
  gguf_get_meta_data(gguf.get(), bytes.data());
  for (size_t i = 0; i < matrices.size(); ++i) {
    const size_t offset = data + gguf_get_tensor_offset(gguf.get(), static_cast<int64_t>(i));
    if (!Store(options.precision,
               std::span(weights.values).subspan(matrices[i].offset, matrices[i].size()),
               reinterpret_cast<std::byte*>(bytes.data() + offset))) {
      return NotFinite();
    }
  }
  if (options.sealed) bytes.replace(kChecksumOffset, kChecksumSize, Checksum(bytes));
  return bytes;
}

Result<ImportedAdapter> DecodeGguf(std::string_view bytes, const AdapterExpectation& expected) {
  if (auto error = CheckShape(expected.shape)) return *error;
  const size_t most = expected.shape.Size() * sizeof(float) + kMaxMetadata +
                      MatricesOf(expected.shape).size() * kMaxTensorOverhead;
  if (bytes.size() > most) {
    return Wrong("a file of " + std::to_string(bytes.size()) +
                     " bytes, an adapter of this shape has "
                     "at most " +
                     std::to_string(most),
                 "configure the rank and modules that the adapter was trained with");
  }
  if (!bytes.starts_with("GGUF")) return Unreadable("not a GGUF file");
  const size_t key = kChecksumOffset - 12 - std::string_view(kChecksumKey).size();
  if (bytes.size() < kChecksumOffset + kChecksumSize ||
      bytes.substr(key, std::string_view(kChecksumKey).size()) != kChecksumKey) {
    return Unreadable("a GGUF that nudge did not write");
  }
  if (bytes.substr(kChecksumOffset, kChecksumSize) != Checksum(std::string(bytes))) {
    return Unreadable("the file is truncated or altered: its checksum does not match");
  }
  const Gguf gguf(
      gguf_init_from_buffer(bytes.data(), bytes.size(), {.no_alloc = true, .ctx = nullptr}));
  if (!gguf) return Unreadable("the GGUF structure is broken");
  auto adapter = ReadManifest(gguf.get());
  if (!adapter) return adapter;
  if (auto error = CheckBase(gguf.get(), adapter->manifest, expected)) return *error;
  auto weights = ReadWeights(gguf.get(), bytes, expected.shape);
  if (!weights) return weights.error();
  adapter.value().weights = std::move(weights).value();
  if (Digest(adapter->weights) != adapter->values_digest) {
    return Wrong("the values are not those that nudge.values_digest names",
                 "export the snapshot again");
  }
  return adapter;
}

Result<PeftFiles> EncodePeft(const LoraWeights& weights, const AdapterManifest& manifest,
                             AdapterPrecision precision) {
  if (auto error = CheckWeights(weights)) return *error;
  if (auto error = CheckManifest(manifest)) return *error;
  if (manifest.base_architecture != "llama") {
    return Error{Code::kUnsupportedModel,
                 "adapter: no PEFT names are known for architecture " + manifest.base_architecture,
                 "use the GGUF"};
  }
  const size_t head_size = manifest.base_head_size;
  const size_t value_size = ValueSize(precision);
  std::vector<std::byte> values(weights.values.size() * value_size);
  if (!Store(precision, weights.values, values.data())) return NotFinite();
  std::vector<SafetensorsTensor> tensors;
  for (const Matrix& matrix : MatricesOf(weights.shape)) {
    const auto data =
        std::span(values).subspan(matrix.offset * value_size, matrix.size() * value_size);
    if (IsInterleaved(matrix)) {
      if (head_size == 0 || head_size % 2 != 0 || matrix.rows % head_size != 0) {
        return Wrong("heads of " + std::to_string(head_size) + " rows do not divide the " +
                     std::to_string(matrix.rows) + " rows of " + matrix.GgufName());
      }
      Uninterleave(data, matrix.columns * value_size, head_size);
    }
    tensors.push_back(
        {matrix.PeftName(),
         precision == AdapterPrecision::kF32 ? SafetensorsType::kF32 : SafetensorsType::kF16,
         {matrix.rows, matrix.columns},
         data});
  }
  auto config = PeftConfig(weights.shape, manifest);
  if (!config) return config.error();
  auto safetensors = EncodeSafetensors(tensors, {{"format", "pt"}});
  if (!safetensors) return safetensors.error();
  return PeftFiles{std::move(config).value(), std::move(safetensors).value()};
}

Result<LoraWeights> RoundTo(AdapterPrecision precision, const LoraWeights& weights) {
  if (auto error = CheckWeights(weights)) return *error;
  LoraWeights rounded = weights;
  if (precision == AdapterPrecision::kF16) {
    std::vector<ggml_fp16_t> halves(weights.values.size());
    ToHalves(weights.values, halves.data());
    ToFloats(halves, rounded.values.data());
  }
  if (!AllFinite(rounded.values)) return NotFinite();
  return rounded;
}

}  // namespace nudge
