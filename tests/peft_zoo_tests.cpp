// labels: unit
// Adapters as other tools leave them below the import folder: what is a plain LoRA of this shape is
// taken whatever else its configuration says, all else is refused by name, with a remedy that can
// be followed in the training tool.
#include <sys/stat.h>

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "stages/hash.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/model/adapters/peft_file.h"
#include "stages/model/adapters/safetensors.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;
using Json = nlohmann::ordered_json;

namespace {

namespace fs = std::filesystem;

const std::string kQuery = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
constexpr char kUnsloth[] =
    "(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|"
    "up_proj|down_proj).*?)";

LoraShape SmallShape(uint32_t rank = 4, float alpha = 8) {
  LoraShape shape;
  shape.layers = 2;
  shape.rank = rank;
  shape.alpha = alpha;
  shape.in = {24, 24, 24, 32, 24, 24, 40};
  shape.out = {32, 16, 16, 24, 40, 40, 24};
  shape.enabled.fill(true);
  return shape;
}

void Write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// An import folder with one adapter, "zoo", that each test changes.
struct Zoo {
  TempFolder folder;
  LoraShape shape;
  LoraWeights weights;
  AdapterExpectation expected;
  Json config;
  std::string file;                        // EncodePeft's; `tensors` points into it
  std::vector<SafetensorsTensor> tensors;  // of adapter_model.safetensors
  std::vector<std::string> added;          // what else they point into

  explicit Zoo(LoraShape its = SmallShape()) : shape(its) {
    weights = {shape, std::vector<float>(shape.Size())};
    for (size_t i = 0; i < weights.values.size(); ++i) {
      weights.values[i] = static_cast<float>(UniformAt(3, i) - 0.5);
    }
    AdapterManifest manifest;
    manifest.tenant = "acme";
    manifest.digest = Digest(weights);
    manifest.base_sha256 = std::string(64, 'a');
    manifest.base_architecture = "llama";
    manifest.base_head_size = 8;
    expected = {manifest.base_sha256, "llama", shape, 8};
    const PeftFiles files = EncodePeft(weights, manifest, AdapterPrecision::kF32).value();
    config = Json::parse(files.config);
    file = files.safetensors;
    tensors = ParseSafetensors(file)->tensors;
    added.reserve(64);
  }

  SafetensorsTensor& Tensor(const std::string& name) {
    for (SafetensorsTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    BOOST_FAIL("no tensor " + name);
    return tensors.front();
  }
  void Add(const std::string& name, std::vector<uint64_t> sizes, SafetensorsType type) {
    size_t bytes = ElementSize(type);
    for (const uint64_t size : sizes) bytes *= size;
    added.emplace_back(bytes, '\0');
    tensors.push_back({name, type, std::move(sizes), std::as_bytes(std::span(added.back()))});
  }
  template <class Number>
  void Fill(SafetensorsTensor& tensor, SafetensorsType type, const std::vector<Number>& values) {
    added.emplace_back(reinterpret_cast<const char*>(values.data()),
                       values.size() * sizeof(Number));
    tensor.type = type;
    tensor.data = std::as_bytes(std::span(added.back()));
  }

  // Both files as they are now, and the digest of that with the tensors.
  std::string Save(const std::string& name = "zoo") {
    const std::string bytes = EncodeSafetensors(tensors, {{"format", "pt"}}).value();
    Write(fs::path(folder.path()) / name / "adapter_model.safetensors", bytes);
    Write(fs::path(folder.path()) / name / "adapter_config.json", config.dump(2));
    return Sha256Hex(bytes);
  }
  Result<ImportedAdapter> Import(const std::string& uri, const std::string& sha256 = "") const {
    const auto files = ReadImport(folder.path(), uri, sha256);
    if (!files.ok()) return files.error();
    return DecodeFiles(*files, expected);
  }

  // The adapter that was made first, in whatever clothes.
  void Take(const std::string& row) {
    const auto read = Import("zoo", Save());
    BOOST_REQUIRE_MESSAGE(read.ok(), row + ": " + (read.ok() ? "" : read.error().message));
    BOOST_TEST(read->values_digest == Digest(weights), row);
  }
  void Refuse(const std::string& part, const std::string& remedy) {
    Save();
    Refused(Import("zoo"), part, remedy);
  }
  void Refused(const Result<ImportedAdapter>& result, const std::string& part,
               const std::string& remedy, Code code = Code::kWrongAdapter) const {
    BOOST_REQUIRE_MESSAGE(!result.ok(), "not refused: " + part);
    const Error& error = result.error();
    BOOST_TEST((error.code == code), error.message);
    BOOST_TEST(error.message.find(part) != std::string::npos,
               error.message + " does not say " + part);
    BOOST_TEST(error.remedy.find(remedy) != std::string::npos,
               error.remedy + " does not say " + remedy);
    BOOST_TEST(!remedy.empty());
    for (const std::string& text : {error.message, error.remedy}) {
      BOOST_TEST(text.find(folder.path()) == std::string::npos, text);
    }
  }
};

}  // namespace

// ---- The configuration --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(row_1_all_that_peft_writes_by_default_is_taken) {
  Zoo zoo;
  zoo.config.update(Json::parse(R"({
    "corda_config": null, "lora_ga_config": null, "arrow_config": null, "eva_config": null,
    "target_parameters": null, "alora_invocation_tokens": null, "trainable_token_indices": null,
    "use_bdlora": null, "use_qalora": false, "loftq_config": {}, "lora_bias": false,
    "ensure_weight_tying": false, "qalora_group_size": 16, "exclude_modules": null,
    "layers_pattern": null, "layers_to_transform": null, "megatron_config": null,
    "megatron_core": "megatron.core", "peft_version": "0.20.0", "alpha_pattern": {},
    "rank_pattern": {}, "layer_replication": null, "revision": null, "auto_mapping": null})"));
  zoo.Take("PEFT's defaults");
}

BOOST_AUTO_TEST_CASE(row_2_and_3_an_unknown_option_is_taken_where_it_is_off_and_named_where_not) {
  Zoo zoo;
  for (const Json& off : {Json(false), Json(nullptr), Json::object(), Json::array(), Json("")}) {
    zoo.config["use_foo"] = zoo.config["foo_config"] = off;
    zoo.Take("use_foo " + off.dump());
  }
  for (const Json& on : {Json(true), Json(3), Json("yes"), Json({{"a", 1}})}) {
    zoo.config["use_foo"] = on;
    zoo.Refuse("adapter_config.json: use_foo: " + on.dump(), "train without use_foo");
  }
}

BOOST_AUTO_TEST_CASE(row_4_a_pattern_of_modules_is_judged_by_the_tensors_that_are_there) {
  for (const char* pattern : {kUnsloth, ".*proj", "all-linear", "ALL-LINEAR"}) {
    Zoo zoo;
    zoo.config["target_modules"] = pattern;
    zoo.Take(pattern);
    auto without = zoo.tensors;
    std::erase_if(zoo.tensors, [](const SafetensorsTensor& tensor) {
      return tensor.name.find("layers.1.mlp.up_proj") != std::string::npos;
    });
    zoo.Refuse("layers.1.mlp.up_proj.lora_A.weight is missing, so target_modules \"" +
                   std::string(pattern).substr(0, 20),
               R"(target_modules=["q_proj","k_proj","v_proj","o_proj","gate_proj","up_proj",)"
               R"("down_proj"])");
    zoo.tensors = without;
    zoo.Add("base_model.model.model.layers.0.mlp.router.lora_A.weight", {4, 24},
            SafetensorsType::kF32);
    zoo.Refuse(
        "mlp.router.lora_A.weight has no place in an adapter of this shape, so "
        "target_modules",
        "train with target_modules=[");
  }
}

BOOST_AUTO_TEST_CASE(row_4_a_pattern_may_stand_for_some_modules_where_these_are_configured) {
  LoraShape shape = SmallShape();
  shape.enabled = {true, false, true, false, false, false, false};
  for (const char* pattern : {".*\\.(q|v)_proj", "all-linear"}) {
    Zoo zoo(shape);
    zoo.config["target_modules"] = pattern;
    zoo.config["exclude_modules"] = ".*(mlp|k_proj|o_proj).*";
    zoo.Take(pattern);
    zoo.expected.shape = SmallShape();
    zoo.Refuse("is missing, so target_modules", "or set adapt.modules");
  }
}

BOOST_AUTO_TEST_CASE(row_5_excluded_modules_are_judged_by_the_tensors_that_are_there) {
  Zoo zoo;
  for (const Json& excluded : {Json({"lm_head"}), Json("lm_head"), Json({"visual", "lm_head"})}) {
    zoo.config["exclude_modules"] = excluded;
    zoo.Take(excluded.dump());
  }
  zoo.config["exclude_modules"] = {"q_proj"};
  std::erase_if(zoo.tensors, [](const SafetensorsTensor& tensor) {
    return tensor.name.find("q_proj") != std::string::npos;
  });
  zoo.Refuse("q_proj.lora_A.weight is missing, so exclude_modules [\"q_proj\"]",
             "train with target_modules=[");
  zoo.expected.shape.enabled[0] = false;
  BOOST_TEST(zoo.Import("zoo").ok());
}

BOOST_AUTO_TEST_CASE(modules_may_be_listed_by_the_end_of_their_paths_or_in_full) {
  Zoo zoo;
  zoo.config["target_modules"] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                  "o_proj",           "mlp.gate_proj",    "mlp.up_proj",
                                  "mlp.down_proj",    "mlp.down_proj"};
  zoo.Take("ends of paths");
  Json full = Json::array();
  for (int layer = 0; layer < 2; ++layer) {
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      full.push_back("model.layers." + std::to_string(layer) + "." + name);
    }
  }
  zoo.config["target_modules"] = full;
  zoo.Take("paths in full");
  for (const char* other :
       {"lm_head", "qkv_proj", "gate_up_proj", "c_attn", "query_key_value", "xq_proj", ""}) {
    zoo.config["target_modules"] = {other};
    zoo.Refuse("target_modules: \"" + std::string(other) + "\" cannot be adapted here",
               "train with target_modules=[");
  }
}

BOOST_AUTO_TEST_CASE(row_7_what_changes_the_meaning_of_the_matrices_is_named_with_its_remedy) {
  const std::vector<std::tuple<std::string, Json, std::string>> rows = {
      {"use_dora", true, "train with use_dora=False"},
      {"init_lora_weights", "pissa", "path_initial_model_for_weight_conversion"},
      {"init_lora_weights", "pissa_niter_16", "path_initial_model_for_weight_conversion"},
      {"init_lora_weights", "olora", "init_lora_weights=True"},
      {"init_lora_weights", "corda", "init_lora_weights=True"},
      {"init_lora_weights", "lora_ga", "init_lora_weights=True"},
      {"init_lora_weights", "loftq", "init_lora_weights=True"},
      {"rank_pattern", {{"q_proj", 8}}, "leave rank_pattern out"},
      {"alpha_pattern", {{"q_proj", 8}}, "leave alpha_pattern out"},
      {"modules_to_save", {"lm_head"}, "train without modules_to_save"},
      {"layers_to_transform", {0}, "leave layers_to_transform out"},
      {"layers_to_transform", 0, "leave layers_to_transform out"},
      {"bias", "all", "bias=\"none\""},
      {"lora_bias", true, "train without lora_bias"},
      {"use_qalora", true, "train without use_qalora"},
      {"alora_invocation_tokens", {1, 2}, "train without alora_invocation_tokens"},
      {"target_parameters", {"mlp.experts"}, "target_modules"},
      {"trainable_token_indices", {7}, "train without it"},
      {"task_type", "SEQ_CLS", "CAUSAL_LM"}};
  for (const auto& [key, value, remedy] : rows) {
    Zoo zoo;
    zoo.config[key] = value;
    zoo.Refuse("adapter_config.json: " + key + ": " + value.dump(), remedy);
  }
  Zoo other;
  other.config["peft_type"] = "ADALORA";
  other.Refuse("peft_type is \"ADALORA\"", "LoraConfig");
  other.config = Json::parse(R"({"fine_tune_type": "lora", "num_layers": 2})");
  other.Refuse("peft_type is missing", "save_pretrained");
}

BOOST_AUTO_TEST_CASE(what_is_read_only_with_another_option_is_taken_without_it) {
  Zoo zoo;  // as a conversion of save_pretrained leaves them
  zoo.config["corda_config"] = {{"corda_method", "kpm"}};
  zoo.config["loftq_config"] = {{"loftq_bits", 4}};
  zoo.config["lora_ga_config"] = {{"direction", "ArB2r"}};
  zoo.config["layers_pattern"] = "layers";
  zoo.config["use_rslora"] = nullptr;
  zoo.config["r"] = 4.0;
  zoo.config["auto_mapping"] = {{"base_model_class", "LlamaForCausalLM"}};
  zoo.Take("leftovers");
}

BOOST_AUTO_TEST_CASE(row_8_rslora_is_taken_where_its_scale_is_the_configured_one) {
  Zoo zoo(SmallShape(8, PlainAlpha(16, 8, true)));
  zoo.config["use_rslora"] = true;
  zoo.config["lora_alpha"] = 16;
  zoo.Take("rsLoRA");
  zoo.config["use_rslora"] = false;
  zoo.Refuse("lora_alpha 16 means alpha / r = 2.000000", "set adapt.alpha");
  zoo.config["r"] = 16;
  zoo.Refuse("r is 16, this configuration's rank is 8", "train with r=8");
}

// ---- The tensors --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(row_9_a_state_dict_with_the_adapters_name_in_it_is_told_from_a_saved_adapter) {
  for (const std::string name : {"default", "my-adapter", "v1.2"}) {
    Zoo zoo;
    for (SafetensorsTensor& tensor : zoo.tensors) {
      tensor.name.insert(tensor.name.size() - std::string("weight").size(), name + ".");
    }
    zoo.Refuse("lora_A." + name + ".weight has no place", "save with PEFT's save_pretrained");
  }
  Zoo bare;
  for (SafetensorsTensor& tensor : bare.tensors) {
    tensor.name = tensor.name.substr(std::string("base_model.model.").size());
  }
  bare.Refuse("tensor model.layers.0.mlp.down_proj.lora_A.weight has no place",
              "its names begin with base_model.model.model.layers.");
  Zoo kohya;
  kohya.Tensor(kQuery).name = "lora_unet_down_blocks_0.lora_down.weight";
  kohya.Refuse("lora_unet_down_blocks_0.lora_down.weight has no place", "save_pretrained");
}

BOOST_AUTO_TEST_CASE(row_10_embeddings_saved_along_are_named_with_how_to_leave_them_out) {
  for (const std::string name :
       {"base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight",
        "base_model.model.lm_head.modules_to_save.weight",
        "base_model.model.model.embed_tokens.base_layer.weight"}) {
    Zoo zoo;
    zoo.Add(name, {3000, 2400}, SafetensorsType::kF32);  // far larger than the adapter
    zoo.Refuse("tensor " + name + " has no place", "save_embedding_layers=False");
  }
  const std::vector<std::pair<std::string, std::string>> others = {
      {"base_model.model.model.embed_tokens.lora_embedding_A", "train with target_modules"},
      {"base_model.model.lm_head.lora_A.weight", "train with target_modules"},
      {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
       "tokens stay as they are"},
      {"base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector", "use_dora=False"},
      {"base_model.model.model.layers.0.mlp.up_proj.lora_B.bias", "lora_bias=False"},
      {"base_model.model.model.layers.0.mlp.up_proj.base_layer.weight", "matrices alone"},
      {"base_model.model.model.norm.weight", "matrices alone"},
      {"base_model.model.model.layers.2.mlp.up_proj.lora_A.weight", "which has 2 layers"},
      {"base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight",
       "names begin with"}};
  for (const auto& [name, remedy] : others) {
    Zoo zoo;
    zoo.Add(name, {4, 24}, SafetensorsType::kF16);
    zoo.Refuse("tensor " + name + " has no place", remedy);
  }
}

BOOST_AUTO_TEST_CASE(row_11_numbers_of_another_kind_or_order_are_refused_by_their_tensor) {
  const size_t count = 4 * 24;
  {
    Zoo zoo;
    zoo.Fill(zoo.Tensor(kQuery), SafetensorsType::kF64, std::vector<double>(count, 1));
    zoo.Refuse("tensor " + kQuery + " is none of F32, F16, BF16", "model.float()");
  }
  {
    Zoo zoo;
    std::vector<float> values(count, 1);
    values[17] = std::numeric_limits<float>::quiet_NaN();
    zoo.Fill(zoo.Tensor(kQuery), SafetensorsType::kF32, values);
    zoo.Refuse("tensor " + kQuery + " has a number that is not finite", "lower learning rate");
  }
  {
    Zoo zoo;
    std::erase_if(zoo.tensors, [](const SafetensorsTensor& t) { return t.name == kQuery; });
    zoo.Refuse("tensor " + kQuery + " is missing", "all layers of this base model, 2,");
  }
  {
    Zoo zoo;
    zoo.Tensor(kQuery).shape = {24, 4};
    zoo.Refuse("tensor " + kQuery + " is [24, 4], expected [4, 24]", "save_pretrained");
    zoo.Tensor(kQuery).shape = {8, 12};
    zoo.Refuse("tensor " + kQuery + " is [8, 12], expected [4, 24]", "configured rank");
  }
  Zoo zoo;  // every tensor in bf16, with numbers that bf16 holds
  for (float& value : zoo.weights.values) {
    value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000U);
  }
  for (SafetensorsTensor& tensor : zoo.tensors) {
    std::vector<uint16_t> halves(tensor.data.size() / sizeof(float));
    for (size_t i = 0; i < halves.size(); ++i) {
      std::memcpy(&halves[i], tensor.data.data() + i * sizeof(float) + 2, 2);
    }
    zoo.Fill(tensor, SafetensorsType::kBF16, halves);
  }
  zoo.Take("bf16");
}

BOOST_AUTO_TEST_CASE(row_11_a_type_that_is_not_known_names_those_that_are) {
  Zoo zoo;
  std::string bytes = zoo.file;
  bytes.replace(bytes.find("\"F32\""), 5, "\"F8X\"");
  Write(fs::path(zoo.folder.path()) / "zoo/adapter_model.safetensors", bytes);
  Write(fs::path(zoo.folder.path()) / "zoo/adapter_config.json", zoo.config.dump());
  zoo.Refused(zoo.Import("zoo"), "has a dtype that is not known here", "F32, F16 or BF16",
              Code::kUnreadableFile);
}

BOOST_AUTO_TEST_CASE(row_12_an_adapter_that_has_learnt_nothing_yet_is_taken) {
  Zoo zoo;
  for (SafetensorsTensor& tensor : zoo.tensors) {
    if (tensor.name.find("lora_B") == std::string::npos) continue;
    zoo.Fill(tensor, SafetensorsType::kF32,
             std::vector<float>(tensor.data.size() / sizeof(float), 0));
  }
  const auto read = zoo.Import("zoo", zoo.Save());
  BOOST_REQUIRE_MESSAGE(read.ok(), (read.ok() ? "" : read.error().message));
  BOOST_TEST(read->weights.values[0] == zoo.weights.values[0]);
  BOOST_TEST(read->weights.values[zoo.shape.OffsetB(1, LoraModule::kUp)] == 0);
}

// ---- The folder ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(row_13_a_pickle_is_never_opened) {
  Zoo zoo;
  zoo.Save();
  const fs::path folder = fs::path(zoo.folder.path()) / "zoo";
  fs::remove(folder / "adapter_model.safetensors");
  for (const char* name : {"adapter_model.bin", "adapter.pt", "x.pth", "y.ckpt", "z.pkl"}) {
    // A pipe that nobody writes: whoever opened it to read would wait, and not be refused by name.
    BOOST_REQUIRE(mkfifo((folder / name).c_str(), 0600) == 0);
    zoo.Refused(zoo.Import("zoo"), std::string("zoo/") + name + " is a pickle",
                "safe_serialization=True");
    zoo.Refused(zoo.Import(std::string("zoo/") + name), "is a pickle", "safe_serialization=True");
    fs::remove(folder / name);
  }
  Write(folder / "adapter_model.bin", "x");  // beside an adapter it is nobody's business
  zoo.Take("a pickle beside");
}

BOOST_AUTO_TEST_CASE(a_folder_without_an_adapter_says_what_is_in_it_instead) {
  Zoo zoo;
  zoo.Save("named/my_adapter");
  zoo.Refused(zoo.Import("named"), "there is one in named/my_adapter", "name that folder");
  BOOST_TEST(zoo.Import("named/my_adapter").ok());
  for (const int step : {100, 200, 300, 400, 500}) {
    zoo.Save("trainer/checkpoint-" + std::to_string(step));
  }
  zoo.Refused(zoo.Import("trainer"),
              "there is one in trainer/checkpoint-100, trainer/checkpoint-200, "
              "trainer/checkpoint-300, trainer/checkpoint-400 and others",
              "name that folder");
  zoo.Save("cache/snapshots/0123abc");
  zoo.Refused(zoo.Import("cache"), "there is one in cache/snapshots/0123abc", "name that folder");
  const fs::path folder(zoo.folder.path());
  for (const char* file : {"adapters.safetensors", "adapter_model-00001-of-00002.safetensors",
                           "pytorch_lora_weights.safetensors"}) {
    fs::remove_all(folder / "other");
    Write(folder / "other" / file, "x");
    zoo.Refused(zoo.Import("other"), std::string("other has ") + file, "save_pretrained");
  }
  Write(folder / "gguf/my-lora.gguf", "GGUF and no more");
  zoo.Refused(zoo.Import("gguf"), "gguf has my-lora.gguf", "name the file itself");
  zoo.Refused(zoo.Import("gguf/my-lora.gguf"), "a GGUF that nudge did not write",
              "the PEFT folder that it was converted from", Code::kUnreadableFile);
  fs::create_directories(folder / "empty");
  zoo.Refused(zoo.Import("empty"), "empty holds neither", "save_pretrained");
  zoo.Refused(zoo.Import("nowhere"), "nowhere is not there", "adapt.import_folder");
  zoo.Refused(zoo.Import("named/my_adapter/adapter_config.json"), "is no GGUF", "PEFT folder");
  fs::remove(folder / "named/my_adapter/adapter_config.json");
  zoo.Refused(zoo.Import("named/my_adapter"), "named/my_adapter/adapter_config.json is not there",
              "adapter_config.json beside");
}

BOOST_AUTO_TEST_CASE(only_the_file_with_the_digest_that_was_asked_for_is_taken) {
  Zoo zoo;
  const std::string sha256 = zoo.Save();
  BOOST_TEST(zoo.Import("zoo", sha256).ok());
  BOOST_TEST(zoo.Import("./zoo/", sha256).ok());
  zoo.Refused(zoo.Import("zoo", std::string(64, '0')),
              "zoo/adapter_model.safetensors has SHA-256 " + sha256 + ", expected 0000",
              "give the SHA-256 of the one that is meant");
}

// ---- Links --------------------------------------------------------------------------------------

namespace {

// As a download leaves it: the folder of a commit holds links into blobs, named by digest.
struct Cache : Zoo {
  std::string sha256 = Save();
  fs::path repository = fs::path(folder.path()) / "models--acme--lora";

  Cache() {
    fs::create_directories(repository / "blobs");
    fs::create_directories(repository / "snapshots/abc");
    const fs::path plain = fs::path(folder.path()) / "zoo";
    fs::rename(plain / "adapter_model.safetensors", repository / "blobs" / sha256);
    fs::rename(plain / "adapter_config.json", repository / "blobs/cfg");
    fs::remove(plain);
    fs::create_symlink("../../blobs/" + sha256,
                       repository / "snapshots/abc/adapter_model.safetensors");
    fs::create_symlink("../../blobs/cfg", repository / "snapshots/abc/adapter_config.json");
  }
  Result<ImportedAdapter> Below(const fs::path& import_folder, const std::string& uri) const {
    const auto files = ReadImport(import_folder.string(), uri, sha256);
    if (!files.ok()) return files.error();
    return DecodeFiles(*files, expected);
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(links_of_a_hugging_face_cache_are_followed_where_the_import_folder_holds_all) {
  const Cache cache;
  for (const auto& [folder, uri] : std::vector<std::pair<fs::path, std::string>>{
           {cache.repository, "snapshots/abc"},
           {cache.repository, "snapshots/abc/adapter_model.safetensors"},
           {cache.folder.path(), "models--acme--lora/snapshots/abc"}}) {
    const auto read = cache.Below(folder, uri);
    BOOST_REQUIRE_MESSAGE(read.ok(), uri + ": " + (read.ok() ? "" : read.error().message));
    BOOST_TEST(read->values_digest == Digest(cache.weights));
  }
  // The import folder may be a link itself, and links may be absolute.
  const fs::path root(cache.folder.path());
  fs::create_directory_symlink(cache.repository, root / "link");
  BOOST_TEST(cache.Below(root / "link", "snapshots/abc").ok());
  BOOST_TEST(cache.Below(root, "link/snapshots/abc").ok());
  cache.Refused(cache.Below(cache.repository, "blobs/" + cache.sha256), "is no GGUF",
                "name the PEFT folder");
}

BOOST_AUTO_TEST_CASE(a_link_that_leaves_the_import_folder_is_refused_by_name) {
  const Cache cache;
  cache.Refused(cache.Below(cache.repository / "snapshots/abc", "."),
                "adapter_model.safetensors is a link that leaves the import folder",
                "models--ORGANISATION--NAME");
  cache.Refused(cache.Below(cache.repository / "snapshots", "abc"),
                "abc/adapter_model.safetensors is a link that leaves", "adapt.import_folder");
  fs::create_directory_symlink("/etc", cache.repository / "snapshots/out");
  for (const char* uri : {"snapshots/out", "snapshots/out/passwd", "snapshots/out/no-such-file",
                          "snapshots/out/ssl/certs"}) {
    cache.Refused(cache.Below(cache.repository, uri),
                  "snapshots/out is a link that leaves the import folder", "copy the file");
  }
  fs::create_directory_symlink("..", cache.repository / "up");
  cache.Refused(cache.Below(cache.repository, "up/models--acme--lora/snapshots/abc"),
                "up is a link that leaves", "copy the file");
  // A folder whose name only begins like the import folder's is another one.
  fs::create_directories(cache.repository.string() + "-2");
  fs::create_directory_symlink(cache.repository.string() + "-2", cache.repository / "twin");
  cache.Refused(cache.Below(cache.repository, "twin"), "twin is a link that leaves", "copy");
  fs::create_symlink("round", cache.repository / "round");
  cache.Refused(cache.Below(cache.repository, "round"), "cannot read round", "give nudge the right",
                Code::kUnreadableFile);
  fs::create_symlink("nowhere", cache.repository / "dangling");
  cache.Refused(cache.Below(cache.repository, "dangling"), "dangling is not there", "copy it");
}

BOOST_AUTO_TEST_CASE(a_configuration_that_is_a_link_out_of_the_folder_is_not_read) {
  const Cache cache;
  const TempFolder elsewhere;
  Write(fs::path(elsewhere.path()) / "cfg", cache.config.dump());
  const fs::path link = cache.repository / "snapshots/abc/adapter_config.json";
  fs::remove(link);
  fs::create_symlink(elsewhere.path() + "/cfg", link);
  cache.Refused(cache.Below(cache.repository, "snapshots/abc"),
                "snapshots/abc/adapter_config.json is a link that leaves", "adapter_config.json");
}

BOOST_AUTO_TEST_CASE(a_uri_that_climbs_is_absolute_or_empty_is_refused) {
  const Zoo zoo;
  for (const std::string uri :
       {"..", "../zoo", "a/../../zoo", "zoo/../zoo", "/etc/passwd", "//etc", ""}) {
    zoo.Refused(zoo.Import(uri), "is no path below the import folder", "without '..'");
  }
  zoo.Refused(zoo.Import(std::string("zoo\0x", 5)), "is no path below", "without '..'");
  const auto nowhere = ReadImport(zoo.folder.path() + "/none", "zoo", "");
  BOOST_REQUIRE(!nowhere.ok());
  BOOST_TEST(nowhere.error().message.find("the import folder cannot be read") != std::string::npos);
  BOOST_TEST(nowhere.error().message.find(zoo.folder.path()) == std::string::npos);
}
