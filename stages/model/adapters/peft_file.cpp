#include "stages/model/adapters/peft_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "stages/model/adapters/adapter_parts.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/model/adapters/safetensors.h"

namespace nudge {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 16;       // of lists and objects in each other in adapter_config.json
constexpr size_t kShownBytes = 64;  // of an option's value in a message
constexpr const char* kBaseKey = "nudge.base.sha256";  // in the safetensors' metadata

// The start of a name out of a file, for a message; whole characters of UTF-8.
std::string Printed(const std::string& name, size_t bytes_max = 128) {
  size_t size = std::min(name.size(), bytes_max);
  while (size < name.size() && size > 0 && (static_cast<uint8_t>(name[size]) & 0xC0) == 0x80) {
    --size;
  }
  return name.substr(0, size);
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

// As PEFT names them: ["q_proj", "v_proj"].
Json TargetsOf(const LoraShape& shape) {
  Json targets = Json::array();
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (shape.enabled[m]) targets.push_back(kModuleNames[m].target);
  }
  return targets;
}

Result<std::string> PeftConfig(const LoraShape& shape, const AdapterManifest& manifest) {
  Json alpha = shape.alpha;
  if (shape.alpha == std::floor(shape.alpha) && shape.alpha < 1e9F) {
    alpha = static_cast<int64_t>(shape.alpha);  // what Hugging Face's own configurations hold
  }
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", manifest.base_name},
                       {"r", shape.rank},
                       {"lora_alpha", alpha},
                       {"lora_dropout", 0.0},
                       {"target_modules", TargetsOf(shape)},
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
  // The configurations of ways to begin are read only together with init_lora_weights, and
  // layers_pattern only together with layers_to_transform.
  static const std::set<std::string> kHarmless{
      "auto_mapping",   "base_model_name_or_path", "corda_config",   "ensure_weight_tying",
      "eva_config",     "inference_mode",          "layers_pattern", "loftq_config",
      "lora_dropout",   "lora_ga_config",          "megatron_core",  "peft_version",
      "runtime_config", "qalora_group_size",       "revision"};
  if (kHarmless.contains(key)) return true;
  // The other ways to begin change the base weights: the matrices alone do not say how.
  if (key == "init_lora_weights") {
    return value == true || value == "gaussian" || value == "eva" || value == "orthogonal";
  }
  if (key == "task_type") return value == "CAUSAL_LM";
  return key == "bias" && value == "none";
}

// What to do in the training tool about an option that is not taken.
std::string RemedyFor(const std::string& key) {
  static const std::map<std::string, const char*> kRemedies{
      {"use_dora",
       "train with use_dora=False, or merge the adapter into its base (merge_and_unload) and serve "
       "that model"},
      {"init_lora_weights",
       "train with init_lora_weights=True, or turn it into a plain LoRA when it is saved: "
       "save_pretrained(FOLDER, path_initial_model_for_weight_conversion=...), which doubles r"},
      {"rank_pattern", "train with one r for all modules: leave rank_pattern out"},
      {"alpha_pattern", "train with one lora_alpha for all modules: leave alpha_pattern out"},
      {"modules_to_save",
       "train without modules_to_save: only matrices beside the base's can be added, not whole "
       "layers"},
      {"layers_to_transform", "train all layers: leave layers_to_transform out"},
      {"layer_replication", "train on the base as it is: leave layer_replication out"},
      {"trainable_token_indices", "train without it: the base's tokens stay as they are"},
      {"target_parameters", "name the modules in target_modules instead"},
      {"task_type", "train it to generate: task_type=\"CAUSAL_LM\""},
      {"bias", "train with bias=\"none\""},
      {"fan_in_fan_out", "train on this base, whose layers need fan_in_fan_out=False"}};
  const auto found = kRemedies.find(key);
  if (found != kRemedies.end()) return found->second;
  return "train without " + Printed(key) + ": nudge knows plain LoRA and rsLoRA";
}

std::string Shown(const Json& value) {
  return Printed(value.dump(-1, ' ', false, Json::error_handler_t::replace), kShownBytes);
}

std::optional<Error> CheckScale(const Json& config, const LoraShape& expected) {
  const Json rank = config.value("r", Json());
  if (!rank.is_number() || rank.get<double>() != expected.rank) {
    return BadConfig(
        "r is " + Shown(rank) + ", this configuration's rank is " + std::to_string(expected.rank),
        "train with r=" + std::to_string(expected.rank) + ", or set adapt.rank to the adapter's");
  }
  Json root = config.value("use_rslora", Json(false));
  if (root.is_null()) root = false;
  if (!root.is_boolean()) {
    return BadConfig("use_rslora is " + Shown(root) + ", not true or false",
                     "save the adapter with PEFT's save_pretrained");
  }
  const Json alpha = config.value("lora_alpha", Json());
  if (!alpha.is_number()) {
    return BadConfig("lora_alpha is " + Shown(alpha) + ", not a number",
                     "save the adapter with PEFT's save_pretrained");
  }
  const float plain = PlainAlpha(alpha.get<double>(), expected.rank, root.get<bool>());
  // PEFT's numbers are decimal: 45.2548 stands for 16 sqrt(8).
  if (!(std::fabs(plain - expected.alpha) <= 1e-5F * expected.alpha)) {
    return BadConfig("lora_alpha " + Shown(alpha) + (root.get<bool>() ? " with use_rslora" : "") +
                         " means alpha / r = " + std::to_string(plain / float(expected.rank)) +
                         ", this configuration's scale is " +
                         std::to_string(expected.alpha / float(expected.rank)),
                     "set adapt.alpha and adapt.scale to what the adapter was trained with");
  }
  return std::nullopt;
}

std::string ModulesRemedy(const LoraShape& expected) {
  return "train with target_modules=" + TargetsOf(expected).dump() +
         ", or set adapt.modules to the adapter's";
}

// The module that an entry of target_modules names, alone or at the end of a path to it.
std::optional<size_t> ModuleOf(const Json& target) {
  if (!target.is_string()) return std::nullopt;
  const std::string path = target.get<std::string>();
  const std::string name = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (name == kModuleNames[m].target) return m;
  }
  return std::nullopt;
}

// A list must name what is configured. A text is a regular expression over names of modules, or
// "all-linear", and exclude_modules takes some out again: what came of that is told by the tensors
// (ReadTensors).
std::optional<Error> CheckTargets(const Json& config, const LoraShape& expected) {
  const Json targets = config.value("target_modules", Json());
  if (targets.is_string() && targets != "") return std::nullopt;
  if (!targets.is_array() || targets.empty()) {
    return BadConfig("target_modules is " + Shown(targets) + ", not a list or pattern of modules",
                     ModulesRemedy(expected));
  }
  std::array<bool, kLoraModules> named{};
  for (const Json& target : targets) {
    const auto module = ModuleOf(target);
    if (!module) {
      return BadConfig("target_modules: " + Shown(target) + " cannot be adapted here",
                       ModulesRemedy(expected));
    }
    named[*module] = true;
  }
  const bool excludes = !IsNeutral(config.value("exclude_modules", Json()));
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (named[m] == expected.enabled[m] || (named[m] && excludes)) continue;
    return BadConfig("target_modules: " + std::string(kModuleNames[m].target) +
                         (named[m] ? " is adapted, by adapt.modules it is not"
                                   : " is not adapted, by adapt.modules it is"),
                     ModulesRemedy(expected));
  }
  return std::nullopt;
}

// Those of target_modules and exclude_modules that left it to the tensors; empty if none did.
std::string DecidedByTensors(const Json& config) {
  const Json targets = config.value("target_modules", Json());
  const Json excluded = config.value("exclude_modules", Json());
  std::string decided;
  if (targets.is_string()) decided = "target_modules " + Shown(targets);
  if (!IsNeutral(excluded)) {
    decided += (decided.empty() ? "" : " and ") + ("exclude_modules " + Shown(excluded));
  }
  return decided;
}

std::optional<Error> CheckConfig(const Json& config, const LoraShape& expected) {
  static const std::set<std::string> kChecked{
      "peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules"};
  if (!config.contains("peft_type")) {
    return BadConfig("peft_type is missing: it is no configuration of PEFT",
                     "save the adapter with PEFT's save_pretrained");
  }
  if (config["peft_type"] != "LORA") {
    return BadConfig("peft_type is " + Shown(config["peft_type"]) + ", not LORA",
                     "train a LoRA adapter (LoraConfig)");
  }
  for (const auto& [key, value] : config.items()) {
    if (kChecked.contains(key) || IsNeutral(value) || IsHarmless(key, value)) continue;
    return BadConfig(Printed(key) + ": " + Shown(value) + " is not supported", RemedyFor(key));
  }
  if (auto error = CheckScale(config, expected)) return error;
  return CheckTargets(config, expected);
}

void WidenBf16(std::span<const std::byte> data, float* values) {
  for (size_t i = 0; i < data.size() / 2; ++i) {
    uint16_t high = 0;
    std::memcpy(&high, &data[2 * i], 2);
    values[i] = std::bit_cast<float>(uint32_t{high} << 16);
  }
}

std::string ShapeText(const std::vector<uint64_t>& sizes) {
  std::string text;
  for (const uint64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

std::optional<Error> CheckTensorShape(const SafetensorsTensor& tensor,
                                      const AdapterMatrix& matrix) {
  const std::vector<uint64_t> expected{matrix.rows, matrix.columns};
  if (tensor.shape == expected) return std::nullopt;
  const bool transposed = tensor.shape == std::vector<uint64_t>{matrix.columns, matrix.rows};
  return WrongAdapter("tensor " + Printed(tensor.name) + " is " + ShapeText(tensor.shape) +
                          ", expected " + ShapeText(expected),
                      transposed
                          ? "it lies the other way round: save the adapter with PEFT's "
                            "save_pretrained"
                          : "import an adapter of this base model, trained with the configured "
                            "rank in all modules");
}

std::optional<Error> ReadTensor(const SafetensorsTensor& tensor, const AdapterMatrix& matrix,
                                float* values) {
  if (auto error = CheckTensorShape(tensor, matrix)) return error;
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
                          "convert the model before it is saved: model.float(), then "
                          "save_pretrained");
  }
  if (AllFinite({values, matrix.size()})) return std::nullopt;
  return WrongAdapter("tensor " + tensor.name + " has a number that is not finite",
                      "the training diverged, or overflowed f16: save an earlier checkpoint, or "
                      "train in bf16 or f32 with a lower learning rate");
}

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

// Whether it is that of an adapter's matrix, with the adapter's name still in it, as a state_dict
// of PEFT has it: "...lora_A.default.weight".
bool HasAdapterName(std::string_view name) {
  for (const std::string_view part : {".lora_A.", ".lora_B."}) {
    const size_t at = name.find(part);
    if (at != name.npos && name.ends_with(".weight") && name.substr(at + part.size()) != "weight") {
      return true;
    }
  }
  return false;
}

// Why a tensor should be in the file that has no place in this adapter, and how to be rid of it.
std::string RemedyForExtra(std::string_view name, const LoraShape& expected) {
  if (HasAdapterName(name)) {
    return "that is a state_dict, with the adapter's name in it: save with PEFT's save_pretrained, "
           "which leaves the name out";
  }
  if (Holds(name, "lora_magnitude_vector")) return RemedyFor("use_dora");
  if (Holds(name, ".lora_B.bias")) return "train with lora_bias=False";
  if (Holds(name, "trainable_tokens_")) return RemedyFor("trainable_token_indices");
  if (Holds(name, "embed_tokens.") || Holds(name, "lm_head.")) {
    if (Holds(name, "lora_")) return ModulesRemedy(expected);
    return "save with save_pretrained(FOLDER, save_embedding_layers=False); with a vocabulary that "
           "was resized, or embeddings that were trained, an adapter cannot be served on this base";
  }
  if (!Holds(name, "lora_")) {
    return "save the adapter's matrices alone, with PEFT's save_pretrained";
  }
  constexpr std::string_view kLayers = "base_model.model.model.layers.";
  if (!name.starts_with(kLayers)) {
    return "save an adapter of this base model with PEFT's save_pretrained: its names begin with " +
           std::string(kLayers);
  }
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (!Holds(name, "." + std::string(kModuleNames[m].peft) + ".")) continue;
    return expected.enabled[m] ? "import an adapter of this base model, which has " +
                                     std::to_string(expected.layers) + " layers"
                               : ModulesRemedy(expected);
  }
  return ModulesRemedy(expected);
}

using TensorsByName = std::map<std::string_view, const SafetensorsTensor*>;

// That just the expected tensors are there. One too many is named first: it tells why another one
// is missing.
std::optional<Error> CheckNames(const TensorsByName& tensors, const Json& config,
                                const LoraShape& expected) {
  std::set<std::string, std::less<>> names;
  for (const AdapterMatrix& matrix : MatricesOf(expected)) names.insert(matrix.PeftName());
  const std::string decided = DecidedByTensors(config);
  const std::string why = decided.empty() ? "" : ", so " + decided + " is not what is configured";
  for (const auto& [name, tensor] : tensors) {
    if (names.contains(name)) continue;
    return WrongAdapter(
        "tensor " + Printed(std::string(name)) + " has no place in an adapter of this shape" + why,
        RemedyForExtra(name, expected));
  }
  for (const std::string& name : names) {
    if (tensors.contains(name)) continue;
    return WrongAdapter("tensor " + name + " is missing" + why,
                        ModulesRemedy(expected) + "; all layers of this base model, " +
                            std::to_string(expected.layers) + ", must be in it");
  }
  return std::nullopt;
}

Result<LoraWeights> ReadTensors(const SafetensorsFile& file, const Json& config,
                                const AdapterExpectation& expected) {
  TensorsByName tensors;
  for (const SafetensorsTensor& tensor : file.tensors) tensors[tensor.name] = &tensor;
  if (auto error = CheckNames(tensors, config, expected.shape)) return *error;
  LoraWeights weights{expected.shape, std::vector<float>(expected.shape.Size())};
  for (const AdapterMatrix& matrix : MatricesOf(expected.shape)) {
    const auto values = std::span(weights.values).subspan(matrix.offset, matrix.size());
    if (auto error = ReadTensor(*tensors[matrix.PeftName()], matrix, values.data())) return *error;
    if (IsInterleaved(expected.base_architecture, matrix)) {
      if (auto error = CheckHeads(matrix, expected.base_head_size)) return *error;
      ReorderRows(RowOrder::kGguf, std::as_writable_bytes(values), matrix.columns * sizeof(float),
                  expected.base_head_size);
    }
  }
  return weights;
}

}  // namespace

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
  auto weights = ReadTensors(*file, *parsed, expected);
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
