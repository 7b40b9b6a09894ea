#include "stages/model/adapters/adapter_file.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "stages/hash.h"
#include "stages/model/adapters/adapter_parts.h"

namespace nudge {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kFormat = 1;
constexpr size_t kMaxMetadata = size_t{1} << 20;  // bytes of a GGUF's keys, beside its tensors
constexpr size_t kMaxTensorOverhead = 256;        // bytes of a tensor's name, shape and padding
constexpr const char* kChecksumKey = "nudge.checksum";  // the first key, so that its place is known
constexpr const char* kMergedKey = "nudge.merged.sha256";
constexpr const char* kMergedWeightsKey = "nudge.merged.weights";

// The digits of the checksum: after magic, version and two counts (24 bytes), the key with its
// length, the value's type and its length.
constexpr size_t kChecksumSize = 64;
constexpr size_t kChecksumOffset = 24 + 8 + std::string_view(kChecksumKey).size() + 4 + 8;

Error Unreadable(std::string message) {
  return {Code::kUnreadableFile, "adapter: " + std::move(message),
          "copy the snapshot's adapter.gguf again and compare its SHA-256 with the one in its "
          "manifest.json"};
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
  if (manifest.merged_of.empty()) return;
  std::vector<const char*> parts;
  std::vector<double> weights_of;
  for (const MergedPart& part : manifest.merged_of) {
    parts.push_back(part.sha256.c_str());
    weights_of.push_back(part.weight);
  }
  gguf_set_arr_str(gguf, kMergedKey, parts.data(), parts.size());
  gguf_set_arr_data(gguf, kMergedWeightsKey, GGUF_TYPE_FLOAT64, weights_of.data(),
                    weights_of.size());
}

// Describes the tensors to `gguf`, which then knows where the bytes of each belong.
void AddTensors(gguf_context* gguf, std::span<const AdapterMatrix> matrices,
                AdapterPrecision precision) {
  const std::unique_ptr<ggml_context, FreeGgml> tensors(
      ggml_init({.mem_size = matrices.size() * ggml_tensor_overhead(),
                 .mem_buffer = nullptr,
                 .no_alloc = true}));
  ENSURE(tensors);
  const ggml_type type = precision == AdapterPrecision::kF32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  for (const AdapterMatrix& matrix : matrices) {
    ggml_tensor* tensor = ggml_new_tensor_2d(tensors.get(), type, matrix.columns, matrix.rows);
    ggml_set_name(tensor, matrix.GgufName().c_str());
    gguf_add_tensor(gguf, tensor);
  }
}

// Of a file that is long enough to have one.
std::string Checksum(std::string_view bytes) {
  const std::string_view rest = bytes.substr(kChecksumOffset + kChecksumSize);
  Sha256Stream hash;
  hash.Add(bytes.data(), kChecksumOffset);
  hash.Add(std::string(kChecksumSize, '0').data(), kChecksumSize);
  hash.Add(rest.data(), rest.size());
  return Hex(hash.Finish());
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

// What the adapter was merged of, nothing of one that was not; no value: the keys are not right.
std::optional<std::vector<MergedPart>> ReadParts(const gguf_context* gguf) {
  const int64_t names = gguf_find_key(gguf, kMergedKey);
  const int64_t weights = gguf_find_key(gguf, kMergedWeightsKey);
  if (names < 0 && weights < 0) return std::vector<MergedPart>();
  const auto is_array = [&](int64_t id, gguf_type type) {
    return id >= 0 && gguf_get_kv_type(gguf, id) == GGUF_TYPE_ARRAY &&
           gguf_get_arr_type(gguf, id) == type;
  };
  if (!is_array(names, GGUF_TYPE_STRING) || !is_array(weights, GGUF_TYPE_FLOAT64) ||
      gguf_get_arr_n(gguf, names) != gguf_get_arr_n(gguf, weights)) {
    return std::nullopt;
  }
  std::vector<MergedPart> parts(gguf_get_arr_n(gguf, names));
  const auto* bytes = static_cast<const std::byte*>(gguf_get_arr_data(gguf, weights));
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].sha256 = gguf_get_arr_str(gguf, names, i);
    std::memcpy(&parts[i].weight, bytes + i * sizeof(double), sizeof(double));
  }
  return parts;
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
  auto parts = ReadParts(gguf);
  if (parts) {
    manifest.merged_of = std::move(*parts);
  } else if (missing.empty()) {
    missing = kMergedKey;
  }
  if (!missing.empty())
    return Unreadable("key " + missing + " is missing or not what it should be");
  if (auto error = CheckManifest(manifest)) return *error;
  return read;
}

std::optional<Error> CheckBase(const gguf_context* gguf, const AdapterManifest& manifest,
                               const AdapterExpectation& expected) {
  if (manifest.base_architecture != expected.base_architecture) {
    return WrongAdapter("made for a base of architecture " + manifest.base_architecture +
                            ", this one is " + expected.base_architecture,
                        "import it where its base model runs");
  }
  if (manifest.base_sha256 != expected.base_sha256) {
    return WrongAdapter("made for the base model file with SHA-256 " + manifest.base_sha256 +
                            ", this one is " + expected.base_sha256,
                        "import it where its base model runs");
  }
  const int64_t alpha = gguf_find_key(gguf, "adapter.lora.alpha");
  if (alpha < 0 || gguf_get_kv_type(gguf, alpha) != GGUF_TYPE_FLOAT32) {
    return Unreadable("key adapter.lora.alpha is missing or not what it should be");
  }
  if (gguf_get_val_f32(gguf, alpha) != expected.shape.alpha) {
    return WrongAdapter("alpha is " + std::to_string(gguf_get_val_f32(gguf, alpha)) +
                            ", this configuration's is " + std::to_string(expected.shape.alpha),
                        "configure the alpha that the adapter was trained with");
  }
  return std::nullopt;
}

std::string Dimensions(uint64_t columns, uint64_t rows) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

// The tensor's place in the file, after all that can be wrong with it.
Result<std::span<const std::byte>> FindTensor(const gguf_context* gguf, const AdapterMatrix& matrix,
                                              std::string_view bytes, ggml_type* type) {
  const std::string name = matrix.GgufName();
  const int64_t id = gguf_find_tensor(gguf, name.c_str());
  if (id < 0)
    return WrongAdapter("tensor " + name + " is missing", "import one with the same modules");
  const int64_t* shape = gguf_get_tensor_ne(gguf, id);
  if (shape[0] != matrix.columns || shape[1] != matrix.rows || shape[2] != 1 || shape[3] != 1) {
    return WrongAdapter(
        "tensor " + name + " is " +
            Dimensions(static_cast<uint64_t>(shape[0]), static_cast<uint64_t>(shape[1])) +
            ", expected " + Dimensions(matrix.columns, matrix.rows),
        "configure the rank and modules that the adapter was trained with");
  }
  *type = gguf_get_tensor_type(gguf, id);
  if (*type != GGML_TYPE_F16 && *type != GGML_TYPE_F32) {
    return WrongAdapter("tensor " + name + " is neither f16 nor f32", "export the snapshot again");
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
  const std::vector<AdapterMatrix> matrices = MatricesOf(shape);
  LoraWeights weights{shape, std::vector<float>(shape.Size())};
  std::vector<uint16_t> halves;
  for (const AdapterMatrix& matrix : matrices) {
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
    return WrongAdapter(
        std::to_string(count) + " tensors, expected " + std::to_string(matrices.size()),
        "configure the modules that the adapter was trained with");
  }
  if (!AllFinite(weights.values)) return AdapterNotFinite();
  return weights;
}

// The parsed file, once its bytes are known to be those that were written.
Result<Gguf> OpenSealed(std::string_view bytes) {
  if (!bytes.starts_with("GGUF")) return Unreadable("not a GGUF file");
  const size_t key = kChecksumOffset - 12 - std::string_view(kChecksumKey).size();
  if (bytes.size() < kChecksumOffset + kChecksumSize ||
      bytes.substr(key, std::string_view(kChecksumKey).size()) != kChecksumKey) {
    Error foreign = Unreadable("a GGUF that nudge did not write");
    foreign.remedy = "import the PEFT folder that it was converted from";
    return foreign;
  }
  if (bytes.substr(kChecksumOffset, kChecksumSize) != Checksum(bytes)) {
    return Unreadable("the file is truncated or altered: its checksum does not match");
  }
  Gguf gguf(gguf_init_from_buffer(bytes.data(), bytes.size(), {.no_alloc = true, .ctx = nullptr}));
  if (!gguf) return Unreadable("the GGUF structure is broken");
  return gguf;
}

// The shape that the first layer's tensors and their number speak of; ReadWeights finds what is not
// as it says.
Result<LoraShape> ReadShape(const gguf_context* gguf) {
  LoraShape shape;
  const int64_t alpha = gguf_find_key(gguf, "adapter.lora.alpha");
  if (alpha < 0 || gguf_get_kv_type(gguf, alpha) != GGUF_TYPE_FLOAT32) {
    return Unreadable("key adapter.lora.alpha is missing or not what it should be");
  }
  shape.alpha = gguf_get_val_f32(gguf, alpha);
  int64_t of_a_layer = 0;
  for (size_t m = 0; m < kLoraModules; ++m) {
    const int64_t a = gguf_find_tensor(gguf, AdapterMatrix{.module = m}.GgufName().c_str());
    const int64_t b =
        gguf_find_tensor(gguf, AdapterMatrix{.module = m, .is_b = true}.GgufName().c_str());
    if (a < 0 || b < 0) continue;
    shape.enabled[m] = true;
    of_a_layer += 2;
    const int64_t* sizes = gguf_get_tensor_ne(gguf, a);
    const auto small = [](int64_t size) {
      return static_cast<uint32_t>(std::clamp<int64_t>(size, 0, UINT32_MAX));
    };
    shape.in[m] = small(sizes[0]);
    shape.rank = small(sizes[1]);
    shape.out[m] = small(gguf_get_tensor_ne(gguf, b)[1]);
  }
  if (of_a_layer > 0) {
    shape.layers =
        static_cast<uint32_t>(std::min<int64_t>(gguf_get_n_tensors(gguf) / of_a_layer, UINT32_MAX));
  }
  if (auto error = CheckShape(shape)) return *error;
  return shape;
}

Result<ImportedAdapter> WithWeights(ImportedAdapter adapter, const gguf_context* gguf,
                                    std::string_view bytes, const LoraShape& shape) {
  auto weights = ReadWeights(gguf, bytes, shape);
  if (!weights) return weights.error();
  adapter.weights = std::move(weights).value();
  if (Digest(adapter.weights) != adapter.values_digest) {
    return WrongAdapter("the values are not those that nudge.values_digest names",
                        "export the snapshot again");
  }
  return adapter;
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
  const std::vector<AdapterMatrix> matrices = MatricesOf(weights.shape);
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
    if (!StoreValues(options.precision,
                     std::span(weights.values).subspan(matrices[i].offset, matrices[i].size()),
                     reinterpret_cast<std::byte*>(bytes.data() + offset))) {
      return AdapterNotFinite();
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
    return WrongAdapter("a file of " + std::to_string(bytes.size()) +
                            " bytes, an adapter of this shape has "
                            "at most " +
                            std::to_string(most),
                        "configure the rank and modules that the adapter was trained with");
  }
  const auto gguf = OpenSealed(bytes);
  if (!gguf) return gguf.error();
  auto adapter = ReadManifest(gguf->get());
  if (!adapter) return adapter;
  if (auto error = CheckBase(gguf->get(), adapter->manifest, expected)) return *error;
  return WithWeights(std::move(adapter).value(), gguf->get(), bytes, expected.shape);
}

Result<ImportedAdapter> DecodeGgufAsItIs(std::string_view bytes) {
  const auto gguf = OpenSealed(bytes);
  if (!gguf) return gguf.error();
  auto adapter = ReadManifest(gguf->get());
  if (!adapter) return adapter;
  const auto shape = ReadShape(gguf->get());
  if (!shape) return shape.error();
  if (shape->Size() > bytes.size() / sizeof(uint16_t)) {
    return Unreadable("its tensors are larger than the file");
  }
  return WithWeights(std::move(adapter).value(), gguf->get(), bytes, *shape);
}

Result<LoraWeights> RoundTo(AdapterPrecision precision, const LoraWeights& weights) {
  if (auto error = CheckWeights(weights)) return *error;
  LoraWeights rounded = weights;
  if (precision == AdapterPrecision::kF16) {
    std::vector<uint16_t> halves(weights.values.size());
    ToHalves(weights.values, halves.data());
    ToFloats(halves, rounded.values.data());
  }
  if (!AllFinite(rounded.values)) return AdapterNotFinite();
  return rounded;
}

}  // namespace nudge
