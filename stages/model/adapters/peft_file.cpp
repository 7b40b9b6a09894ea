#include "stages/model/adapters/peft_file.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "stages/model/adapters/adapter_parts.h"
#include "stages/model/adapters/safetensors.h"

namespace nudge {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 16;  // of lists and objects in each other in adapter_config.json
constexpr const char* kBaseKey = "nudge.base.sha256";  // in the safetensors' metadata

// The start of a name out of a file, for a message.
std::string Printed(const std::string& name) {
  return name.substr(0, 128);
}

// Llama's converter to GGUF turns row half * h + i of a head of q or k, h = head size / 2, into row
// 2 i + half: rotary pairs become neighbours. Moves the rows of B between the two orders.
enum class RowOrder : bool { kHuggingFace, kGguf };
void ReorderRows(RowOrder to, std::span<std::byte> data, size_t row_bytes, size_t head_size) {
  const size_t head_bytes = head_size * row_bytes;
  std::vector<std::byte> head(head_bytes);
  for (size_t start = 0; start < data.size(); start += head_bytes) {
    std::memcpy(head.data(), &data[start], head_bytes);
    for (size_t row = 0; row < head_size; ++row) {
      const size_t gguf_row = 2 * (row % (head_size / 2)) + row / (head_size / 2);
      const size_t from = to == RowOrder::kHuggingFace ? gguf_row : row;
      const size_t at = to == RowOrder::kHuggingFace ? row : gguf_row;
      std::memcpy(&data[start + at * row_bytes], &head[from * row_bytes], row_bytes);
    }
  }
}

// Which of an architecture's matrices have their rows in another order than at Hugging Face.
bool IsInterleaved(const std::string& architecture, const AdapterMatrix& matrix) {
  const auto module = static_cast<LoraModule>(matrix.module);
  return architecture == "llama" && matrix.is_b &&
         (module == LoraModule::kQuery || module == LoraModule::kKey);
}

std::optional<Error> CheckHeads(const AdapterMatrix& matrix, size_t head_size) {
  if (head_size != 0 && head_size % 2 == 0 && matrix.rows % head_size == 0) return std::nullopt;
  return WrongAdapter("heads of " + std::to_string(head_size) + " rows do not divide the " +
                      std::to_string(matrix.rows) + " rows of " + matrix.GgufName());
}

std::optional<Error> CheckArchitecture(const std::string& architecture) {
  if (architecture == "llama" || architecture == "qwen2" || architecture == "qwen3") {
    return std::nullopt;
  }
  return Error{Code::kUnsupportedModel,
               "adapter: no PEFT names are known for architecture " + architecture, "use the GGUF"};
}

Result<std::string> PeftConfig(const LoraShape& shape, const AdapterManifest& manifest) {
  Json alpha = shape.alpha;
  if (shape.alpha == std::floor(shape.alpha) && shape.alpha < 1e9F) {
    alpha = static_cast<int64_t>(shape.alpha);  // what Hugging Face's own configurations hold
  }
  Json targets = Json::array();
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (shape.enabled[m]) targets.push_back(kModuleNames[m].target);
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
    return WrongAdapter("the base's name is not UTF-8");
  }
}

// ---- Reading ------------------------------------------------------------------------------------

Error BadConfig(const std::string& what, const std::string& remedy = "") {
  return WrongAdapter("adapter_config.json: " + what, remedy);
}

Error UnreadableConfig(const std::string& what) {
  return {Code::kUnreadableFile, "adapter: adapter_config.json: " + what,
          "copy the folder again from where it was made"};
}

// The DOM would silently keep the last of two equal keys: they are watched while it is built.
Result<Json> ParseConfig(std::string_view text) {
  if (text.size() > kMaxPeftConfig) {
    return UnreadableConfig("more than " + std::to_string(kMaxPeftConfig) + " bytes");
  }
  std::set<std::string> keys;
  std::string twice;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) {
      deep = true;
      return false;
    }
    if (depth == 1 && event == Json::parse_event_t::key &&
        !keys.insert(parsed.get<std::string>()).second && twice.empty()) {
      twice = parsed.get<std::string>();
    }
    return true;
  };
  Json config = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (!config.is_object()) return UnreadableConfig("not a JSON object");
  if (deep) return UnreadableConfig("more than " + std::to_string(kMaxDepth) + " levels deep");
  if (!twice.empty()) return UnreadableConfig(twice + " is given twice");
  return config;
}

// What stands for "not used" in a PEFT configuration.
bool IsNeutral(const Json& value) {
  return value.is_null() || value == false || value == "" ||
         (value.is_structured() && value.empty());
}

// Options that change nothing about what the matrices mean at inference.
bool IsHarmless(const std::string& key, const Json& value) {
  static const std::set<std::string> kHarmless{"auto_mapping",       "base_model_name_or_path",
                                               "eva_config",         "inference_mode",
                                               "lora_dropout",       "megatron_core",
                                               "peft_version",       "qalora_group_size",
                                               "runtime_config",     "revision",
                                               "ensure_weight_tying"};
  if (kHarmless.contains(key)) return true;
  // The other ways to begin change the base weights: the matrices alone do not say how.
  if (key == "init_lora_weights") {
    return value == true || value == "gaussian" || value == "eva" || value == "orthogonal";
  }
  if (key == "task_type") return value == "CAUSAL_LM";
  return key == "bias" && value == "none";
}

std::string Shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 64);
}

std::optional<Error> CheckScale(const Json& config, const LoraShape& expected) {
  const Json rank = config.value("r", Json());
  if (!rank.is_number_unsigned() || rank.get<uint64_t>() != expected.rank) {
    return BadConfig(
        "r is " + Shown(rank) + ", this configuration's rank is " + std::to_string(expected.rank),
        "configure the rank that the adapter was trained with");
  }
  const Json root = config.value("use_rslora", Json(false));
  if (!root.is_boolean()) return BadConfig("use_rslora is " + Shown(root) + ", not true or false");
  const Json alpha = config.value("lora_alpha", Json());
  if (!alpha.is_number()) return BadConfig("lora_alpha is " + Shown(alpha) + ", not a number");
  const float plain = PlainAlpha(alpha.get<double>(), expected.rank, root.get<bool>());
  // PEFT's numbers are decimal: 45.2548 stands for 16 sqrt(8).
  if (!(std::fabs(plain - expected.alpha) <= 1e-5F * expected.alpha)) {
    return BadConfig("lora_alpha " + Shown(alpha) + (root.get<bool>() ? " with use_rslora" : "") +
                         " means alpha / r = " + std::to_string(plain / float(expected.rank)) +
                         ", this configuration's scale is " +
                         std::to_string(expected.alpha / float(expected.rank)),
                     "configure the alpha and scale that the adapter was trained with");
  }
  return std::nullopt;
}

std::optional<Error> CheckTargets(const Json& targets, const LoraShape& expected) {
  std::array<bool, kLoraModules> named{};
  if (targets == "all-linear") named.fill(true);
  if (targets != "all-linear" && (!targets.is_array() || targets.size() > kLoraModules)) {
    return BadConfig("target_modules is " + Shown(targets) + ", not a list of modules",
                     "list q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj or some");
  }
  if (targets.is_array()) {
    for (const Json& target : targets) {
      size_t m = 0;
      while (m < kLoraModules && target != kModuleNames[m].target) ++m;
      if (m == kLoraModules) {
        return BadConfig("target_modules: " + Shown(target) + " cannot be adapted here",
                         "import an adapter of attention and feed-forward projections alone");
      }
      named[m] = true;
    }
  }
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (named[m] == expected.enabled[m]) continue;
    return BadConfig("target_modules: " + std::string(kModuleNames[m].target) +
                         (named[m] ? " is adapted, by adapt.modules it is not"
                                   : " is not adapted, by adapt.modules it is"),
                     "configure the modules that the adapter was trained with");
  }
  return std::nullopt;
}

std::optional<Error> CheckConfig(const Json& config, const LoraShape& expected) {
  static const std::set<std::string> kChecked{"peft_type", "r", "lora_alpha", "use_rslora",
                                              "target_modules"};
  if (config.value("peft_type", Json()) != "LORA") {
    return BadConfig("peft_type is " + Shown(config.value("peft_type", Json())) + ", not LORA",
                     "import a LoRA adapter");
  }
  for (const auto& [key, value] : config.items()) {
    if (kChecked.contains(key) || IsNeutral(value) || IsHarmless(key, value)) continue;
    return BadConfig(Printed(key) + ": " + Shown(value) + " is not supported",
                     "merge or retrain without it: nudge knows plain LoRA and rsLoRA");
  }
  if (auto error = CheckScale(config, expected)) return error;
  return CheckTargets(config.value("target_modules", Json()), expected);
}

void WidenBf16(std::span<const std::byte> data, float* values) {
  for (size_t i = 0; i < data.size() / 2; ++i) {
    uint16_t high = 0;
    std::memcpy(&high, &data[2 * i], 2);
    values[i] = std::bit_cast<float>(uint32_t{high} << 16);
  }
}

std::optional<Error> ReadTensor(const SafetensorsTensor& tensor, const AdapterMatrix& matrix,
                                float* values) {
  if (tensor.shape != std::vector<uint64_t>{matrix.rows, matrix.columns}) {
    std::string shape;
    for (const uint64_t size : tensor.shape) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    }
    return WrongAdapter("tensor " + tensor.name + " is [" + shape + "], expected [" +
                            std::to_string(matrix.rows) + ", " + std::to_string(matrix.columns) +
                            "]",
                        "import an adapter of this base model, with the configured rank");
  }
  switch (tensor.type) {
    case SafetensorsType::kF32:
      std::memcpy(values, tensor.data.data(), tensor.data.size());
      break;
    case SafetensorsType::kF16: {
      std::vector<uint16_t> halves(matrix.size());  // a copy, since tensors may be unaligned
      std::memcpy(halves.data(), tensor.data.data(), tensor.data.size());
      ToFloats(halves, values);
      break;
    }
    case SafetensorsType::kBF16:
      WidenBf16(tensor.data, values);
      break;
    default:
      return WrongAdapter("tensor " + tensor.name + " is none of F32, F16, BF16",
                          "save the adapter in one of these");
  }
  if (AllFinite({values, matrix.size()})) return std::nullopt;
  return WrongAdapter("tensor " + tensor.name + " has a number that is not finite");
}

Result<LoraWeights> ReadTensors(const SafetensorsFile& file, const AdapterExpectation& expected) {
  std::map<std::string_view, const SafetensorsTensor*> tensors;
  for (const SafetensorsTensor& tensor : file.tensors) tensors[tensor.name] = &tensor;
  LoraWeights weights{expected.shape, std::vector<float>(expected.shape.Size())};
  for (const AdapterMatrix& matrix : MatricesOf(expected.shape)) {
    const auto found = tensors.find(matrix.PeftName());
    if (found == tensors.end()) {
      return WrongAdapter("tensor " + matrix.PeftName() + " is missing",
                          "import an adapter of this base model, with the configured modules");
    }
    const auto values = std::span(weights.values).subspan(matrix.offset, matrix.size());
    if (auto error = ReadTensor(*found->second, matrix, values.data())) return *error;
    if (IsInterleaved(expected.base_architecture, matrix)) {
      if (auto error = CheckHeads(matrix, expected.base_head_size)) return *error;
      ReorderRows(RowOrder::kGguf, std::as_writable_bytes(values), matrix.columns * sizeof(float),
                  expected.base_head_size);
    }
    tensors.erase(found);
  }
  if (tensors.empty()) return weights;
  return WrongAdapter("tensor " + Printed(std::string(tensors.begin()->first)) +
                          " has no place in an adapter of this shape",
                      "configure the modules that the adapter was trained with");
}

}  // namespace

float PlainAlpha(double alpha, uint32_t rank, bool root_of_rank) {
  return static_cast<float>(root_of_rank ? alpha * std::sqrt(static_cast<double>(rank)) : alpha);
}

Result<PeftFiles> EncodePeft(const LoraWeights& weights, const AdapterManifest& manifest,
                             AdapterPrecision precision) {
  if (auto error = CheckWeights(weights)) return *error;
  if (auto error = CheckManifest(manifest)) return *error;
  if (auto error = CheckArchitecture(manifest.base_architecture)) return *error;
  const size_t head_size = manifest.base_head_size;
  const size_t value_size = ValueSize(precision);
  std::vector<std::byte> values(weights.values.size() * value_size);
  if (!StoreValues(precision, weights.values, values.data())) return AdapterNotFinite();
  std::vector<SafetensorsTensor> tensors;
  for (const AdapterMatrix& matrix : MatricesOf(weights.shape)) {
    const auto data =
        std::span(values).subspan(matrix.offset * value_size, matrix.size() * value_size);
    if (IsInterleaved(manifest.base_architecture, matrix)) {
      if (auto error = CheckHeads(matrix, head_size)) return *error;
      ReorderRows(RowOrder::kHuggingFace, data, matrix.columns * value_size, head_size);
    }
    tensors.push_back(
        {matrix.PeftName(),
         precision == AdapterPrecision::kF32 ? SafetensorsType::kF32 : SafetensorsType::kF16,
         {matrix.rows, matrix.columns},
         data});
  }
  auto config = PeftConfig(weights.shape, manifest);
  if (!config) return config.error();
  auto safetensors =
      EncodeSafetensors(tensors, {{"format", "pt"}, {kBaseKey, manifest.base_sha256}});
  if (!safetensors) return safetensors.error();
  return PeftFiles{std::move(config).value(), std::move(safetensors).value()};
}

Result<ImportedAdapter> DecodePeft(std::string_view config, std::string_view safetensors,
                                   const AdapterExpectation& expected) {
  if (auto error = CheckShape(expected.shape)) return *error;
  if (auto error = CheckArchitecture(expected.base_architecture)) return *error;
  const size_t most = expected.shape.Size() * sizeof(float) + 8 + kMaxSafetensorsHeader;
  if (safetensors.size() > most) {
    return WrongAdapter("a file of " + std::to_string(safetensors.size()) +
                            " bytes, an adapter of this shape has at most " + std::to_string(most),
                        "configure the rank and modules that the adapter was trained with");
  }
  const auto parsed = ParseConfig(config);
  if (!parsed) return parsed.error();
  if (auto error = CheckConfig(*parsed, expected.shape)) return *error;
  const auto file = ParseSafetensors(safetensors);
  if (!file) return file.error();
  const auto base = file->metadata.find(kBaseKey);
  if (base != file->metadata.end() && base->second != expected.base_sha256) {
    return WrongAdapter("made for the base model file with SHA-256 " + Printed(base->second) +
                            ", this one is " + expected.base_sha256,
                        "import it where its base model runs");
  }
  auto weights = ReadTensors(*file, expected);
  if (!weights) return weights.error();
  ImportedAdapter imported;
  imported.weights = std::move(weights).value();
  imported.values_digest = Digest(imported.weights);
  imported.manifest.base_sha256 = expected.base_sha256;
  imported.manifest.base_architecture = expected.base_architecture;
  imported.manifest.base_head_size = expected.base_head_size;
  return imported;
}

}  // namespace nudge
