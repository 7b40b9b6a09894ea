// labels: unit
#include "stages/model/adapters/peft_file.h"

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "stages/hash.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/model/adapters/new_adapter.h"
#include "stages/model/adapters/safetensors.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;
using Json = nlohmann::ordered_json;

namespace {

LoraShape SmallShape() {
  LoraShape shape;
  shape.layers = 2;
  shape.rank = 4;
  shape.alpha = 8;
  shape.in = {24, 24, 24, 32, 24, 24, 40};
  shape.out = {32, 16, 16, 24, 40, 40, 24};
  shape.enabled.fill(true);
  return shape;
}

struct Sample {
  LoraWeights weights;
  AdapterManifest manifest;
  AdapterExpectation expected;

  explicit Sample(const std::string& architecture = "llama", LoraShape shape = SmallShape()) {
    weights = {shape, std::vector<float>(shape.Size())};
    for (size_t i = 0; i < weights.values.size(); ++i) {
      weights.values[i] = static_cast<float>(UniformAt(3, i) - 0.5);
    }
    manifest.tenant = "acme";
    manifest.digest = Digest(weights);
    manifest.base_sha256 = std::string(64, 'a');
    manifest.base_architecture = architecture;
    manifest.base_head_size = 8;
    expected = {manifest.base_sha256, architecture, shape, 8};
  }
  PeftFiles Files(AdapterPrecision precision = AdapterPrecision::kF16) const {
    return EncodePeft(weights, manifest, precision).value();
  }
};

void RequireError(const Result<ImportedAdapter>& result, Code code, const std::string& part) {
  BOOST_REQUIRE_MESSAGE(!result.ok(), "not refused: " + part);
  BOOST_TEST((result.error().code == code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos,
             result.error().message + " does not say " + part);
}

std::string With(const std::string& config, const std::string& key, const Json& value) {
  Json json = Json::parse(config);
  json[key] = value;
  return json.dump();
}

// The file with one tensor changed.
std::string Changed(const std::string& safetensors, const std::string& name,
                    const std::function<void(SafetensorsTensor&)>& change,
                    std::map<std::string, std::string> metadata = {}) {
  const auto file = ParseSafetensors(safetensors);
  BOOST_REQUIRE(file.ok());
  std::vector<SafetensorsTensor> tensors = file->tensors;
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.name == name) change(tensor);
  }
  std::erase_if(tensors, [](const SafetensorsTensor& tensor) { return tensor.name.empty(); });
  return EncodeSafetensors(tensors, metadata).value();
}

const std::string kFirst = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_exported_comes_back_for_every_architecture_and_choice_of_modules) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const bool mlp_only : {false, true}) {
      LoraShape shape = SmallShape();
      if (mlp_only) shape.enabled = {false, false, false, false, true, true, true};
      const Sample sample(architecture, shape);
      for (const auto precision : {AdapterPrecision::kF16, AdapterPrecision::kF32}) {
        const PeftFiles files = sample.Files(precision);
        const auto read = DecodePeft(files.config, files.safetensors, sample.expected);
        BOOST_REQUIRE_MESSAGE(read.ok(), (read.ok() ? "" : read.error().message));
        const LoraWeights rounded = RoundTo(precision, sample.weights).value();
        BOOST_TEST((read->weights.values == rounded.values));
        BOOST_TEST((read->weights.shape == shape));
        BOOST_TEST(read->values_digest == Digest(rounded));
      }
      BOOST_TEST(Json::parse(sample.Files().config)["target_modules"].size() ==
                 (mlp_only ? 3u : 7u));
    }
  }
}

BOOST_AUTO_TEST_CASE(only_a_llama_has_its_query_rows_in_another_order_than_hugging_face) {
  const auto second_row = [](const Sample& sample) {
    const PeftFiles files = sample.Files(AdapterPrecision::kF32);  // the tensors lie in it
    const auto parsed = ParseSafetensors(files.safetensors);
    for (const SafetensorsTensor& tensor : parsed->tensors) {
      if (!tensor.name.ends_with("layers.0.self_attn.q_proj.lora_B.weight")) continue;
      float value = 0;
      std::memcpy(&value, tensor.data.data() + 4 * sizeof(float), sizeof value);
      return value;
    }
    return 0.0f;
  };
  const Sample llama("llama"), qwen("qwen2");
  const size_t b = SmallShape().OffsetB(0, LoraModule::kQuery);
  BOOST_TEST(second_row(qwen) == qwen.weights.values[b + 4]);        // row 1
  BOOST_TEST(second_row(llama) == llama.weights.values[b + 2 * 4]);  // row 2
}

BOOST_AUTO_TEST_CASE(bf16_is_widened) {
  const Sample sample;
  const PeftFiles files = sample.Files();
  const size_t count = 4 * 24;
  std::vector<uint16_t> halves(count);
  for (size_t i = 0; i < count; ++i) {
    halves[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(i) - 7) >> 16);
  }
  const auto read = DecodePeft(files.config,
                               Changed(files.safetensors, kFirst,
                                       [&](SafetensorsTensor& tensor) {
                                         tensor.type = SafetensorsType::kBF16;
                                         tensor.data = std::as_bytes(std::span(halves));
                                       }),
                               sample.expected);
  BOOST_REQUIRE(read.ok());
  for (size_t i = 0; i < count; ++i) {
    BOOST_TEST(read->weights.values[i] == static_cast<float>(i) - 7);
  }
}

BOOST_AUTO_TEST_CASE(rslora_divides_by_the_root_of_the_rank) {
  const Sample sample;  // alpha 8, rank 4: scale 2
  const PeftFiles files = sample.Files();
  const std::string root = With(files.config, "use_rslora", true);
  BOOST_TEST(DecodePeft(With(root, "lora_alpha", 4), files.safetensors, sample.expected).ok());
  RequireError(DecodePeft(root, files.safetensors, sample.expected), Code::kWrongAdapter,
               "lora_alpha 8 with use_rslora means alpha / r = 4.000000, this configuration's "
               "scale is 2.000000");
  LoraShape shape = SmallShape();
  shape.rank = 8;
  shape.alpha = PlainAlpha(16, 8, true);
  BOOST_TEST(std::fabs(shape.alpha / 8 - 16 / std::sqrt(8.0f)) < 1e-6f);
  const Sample eighth("llama", shape);
  const PeftFiles written = eighth.Files();
  BOOST_TEST(DecodePeft(written.config, written.safetensors, eighth.expected).ok());
  const std::string theirs = With(With(written.config, "lora_alpha", 16), "use_rslora", true);
  BOOST_TEST(DecodePeft(theirs, written.safetensors, eighth.expected).ok());
}

BOOST_AUTO_TEST_CASE(a_configuration_as_peft_writes_it_is_accepted) {
  const Sample sample;
  const std::string config = R"({
    "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
    "base_model_name_or_path": "someone/some-model", "bias": "none", "corda_config": null,
    "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null,
    "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
    "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
    "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.05,
    "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
    "peft_type": "LORA", "peft_version": "0.18.0", "qalora_group_size": 16, "r": 4,
    "rank_pattern": {}, "revision": null, "target_modules": ["v_proj", "q_proj", "k_proj",
    "o_proj", "up_proj", "down_proj", "gate_proj"], "target_parameters": null,
    "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_dora": false,
    "use_qalora": false, "use_rslora": false})";
  const std::string tensors = sample.Files().safetensors;
  const auto read = DecodePeft(config, tensors, sample.expected);
  BOOST_TEST(read.ok(), (read.ok() ? "" : read.error().message));
  const auto all = With(config, "target_modules", "all-linear");
  BOOST_TEST(DecodePeft(all, tensors, sample.expected).ok());
}

BOOST_AUTO_TEST_CASE(options_that_change_what_the_matrices_mean_are_refused_by_name) {
  const Sample sample;
  const PeftFiles files = sample.Files();
  const std::vector<std::pair<std::string, Json>> options = {
      {"use_dora", true},
      {"bias", "all"},
      {"bias", "lora_only"},
      {"lora_bias", true},
      {"modules_to_save", {"lm_head"}},
      {"rank_pattern", {{"q_proj", 8}}},
      {"alpha_pattern", {{"q_proj", 8}}},
      {"layers_to_transform", {0}},
      {"layer_replication", Json::parse("[[0, 1]]")},
      {"fan_in_fan_out", true},
      {"trainable_token_indices", {1, 2}},
      {"target_parameters", {"mlp.experts.down_proj"}},
      {"init_lora_weights", "pissa"},
      {"init_lora_weights", "olora"},
      {"use_qalora", true},
      {"alora_invocation_tokens", {1}},
      {"task_type", "SEQ_CLS"},
      {"an_option_of_tomorrow", 3}};
  for (const auto& [key, value] : options) {
    RequireError(DecodePeft(With(files.config, key, value), files.safetensors, sample.expected),
                 Code::kWrongAdapter, "adapter_config.json: " + key + ": ");
  }
}

BOOST_AUTO_TEST_CASE(another_rank_scale_kind_or_choice_of_modules_is_refused) {
  const Sample sample;
  const PeftFiles files = sample.Files();
  const auto refuse = [&](const std::string& key, const Json& value, const std::string& part) {
    RequireError(DecodePeft(With(files.config, key, value), files.safetensors, sample.expected),
                 Code::kWrongAdapter, part);
  };
  refuse("r", 8, "r is 8, this configuration's rank is 4");
  refuse("r", "4", "r is \"4\"");
  refuse("r", -4, "r is -4");
  refuse("lora_alpha", 16, "lora_alpha 16 means alpha / r = 4.000000");
  refuse("lora_alpha", nullptr, "lora_alpha is null, not a number");
  refuse("use_rslora", 1, "use_rslora is 1");
  refuse("peft_type", "LOHA", "peft_type is \"LOHA\", not LORA");
  refuse("target_modules", {"q_proj"}, "k_proj is not adapted, by adapt.modules it is");
  refuse("target_modules", {"embed_tokens"}, "\"embed_tokens\" cannot be adapted here");
  refuse("target_modules", {3}, "3 cannot be adapted here");
  refuse("target_modules", nullptr, "target_modules is null, not a list or pattern of modules");
  refuse("target_modules", {{"q_proj", 1}}, "not a list or pattern of modules");
  LoraShape shape = SmallShape();
  shape.enabled[1] = false;
  const Sample fewer("llama", shape);
  RequireError(DecodePeft(files.config, files.safetensors, fewer.expected), Code::kWrongAdapter,
               "k_proj is adapted, by adapt.modules it is not");
  AdapterExpectation other = sample.expected;
  other.base_architecture = "gemma";
  RequireError(DecodePeft(files.config, files.safetensors, other), Code::kUnsupportedModel,
               "gemma");
  other = sample.expected;
  other.base_head_size = 7;
  RequireError(DecodePeft(files.config, files.safetensors, other), Code::kWrongAdapter, "heads of");
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_are_refused_by_name) {
  const Sample sample;
  const PeftFiles files = sample.Files(AdapterPrecision::kF32);
  const auto refuse = [&](const std::function<void(SafetensorsTensor&)>& change,
                          const std::string& part) {
    RequireError(
        DecodePeft(files.config, Changed(files.safetensors, kFirst, change), sample.expected),
        Code::kWrongAdapter, part);
  };
  refuse([](SafetensorsTensor& t) { t.name.clear(); }, "tensor " + kFirst + " is missing");
  refuse(
      [](SafetensorsTensor& t) {
        t.shape = {24, 4};
      },
      "tensor " + kFirst + " is [24, 4], expected [4, 24]");
  refuse([](SafetensorsTensor& t) { t.shape = {96}; }, "is [96], expected [4, 24]");
  refuse([](SafetensorsTensor& t) { t.type = SafetensorsType::kI32; }, "none of F32, F16, BF16");
  refuse([](SafetensorsTensor& t) { t.name += "2"; }, "tensor " + kFirst + "2 has no place");
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(96, 1);
    values[95] = bad;
    refuse([&](SafetensorsTensor& t) { t.data = std::as_bytes(std::span(values)); },
           "tensor " + kFirst + " has a number that is not finite");
  }
  auto parsed = ParseSafetensors(files.safetensors);
  std::vector<SafetensorsTensor> tensors = parsed->tensors;
  tensors.push_back({"base_model.model.lm_head.weight", SafetensorsType::kU8, {0}, {}});
  RequireError(DecodePeft(files.config, EncodeSafetensors(tensors, {}).value(), sample.expected),
               Code::kWrongAdapter, "tensor base_model.model.lm_head.weight has no place");
}

BOOST_AUTO_TEST_CASE(the_base_that_nudge_names_in_the_file_must_be_the_one_that_runs) {
  const Sample sample;
  PeftFiles files = sample.Files();
  AdapterExpectation other = sample.expected;
  other.base_sha256 = std::string(64, 'b');
  RequireError(DecodePeft(files.config, files.safetensors, other), Code::kWrongAdapter,
               "made for the base model file with SHA-256 " + std::string(64, 'a'));
  // Others name no file: the matrices' shapes must do.
  const std::string plain = Changed(files.safetensors, "", [](SafetensorsTensor&) {});
  BOOST_TEST(DecodePeft(files.config, plain, other).ok());
}

BOOST_AUTO_TEST_CASE(a_configuration_that_is_cut_doubled_deep_or_no_object_is_unreadable) {
  const Sample sample;
  const PeftFiles files = sample.Files();
  const auto refuse = [&](const std::string& config, const std::string& part) {
    RequireError(DecodePeft(config, files.safetensors, sample.expected), Code::kUnreadableFile,
                 part);
  };
  for (size_t size = 0; size + 2 < files.config.size(); ++size) {  // "}\n" stands at its end
    refuse(files.config.substr(0, size), "not a JSON object");
  }
  refuse("[1]", "not a JSON object");
  refuse("{\"r\": 4, \"r\": 8}", "r is given twice");
  refuse(std::string(100'000, '['), "not a JSON object");
  const size_t deep = 400'000;
  refuse("{\"r\": " + std::string(deep, '[') + std::string(deep, ']') + "}", "levels deep");
  refuse(std::string(kMaxPeftConfig + 1, ' '), "more than 1048576 bytes");
  for (size_t size = 0; size < files.safetensors.size(); size += 97) {
    RequireError(DecodePeft(files.config, files.safetensors.substr(0, size), sample.expected),
                 Code::kUnreadableFile, "safetensors");
  }
  RequireError(DecodePeft(files.config, std::string(20 << 20, 'x'), sample.expected),
               Code::kUnreadableFile, "a header of");
}

BOOST_AUTO_TEST_CASE(a_peft_folder_is_read_by_its_path_and_the_digest_of_its_tensors) {
  const Sample sample;
  const PeftFiles files = sample.Files();
  const TempFolder folder;
  const std::string tensors = folder.path() + "/adapter_model.safetensors";
  const std::string config = folder.path() + "/adapter_config.json";
  Write(tensors, files.safetensors);
  RequireError(ReadSnapshot(folder.path(), "", sample.expected), Code::kWrongAdapter,
               "adapter_config.json is not there");
  Write(config, files.config);
  const std::string sha256 = Sha256Hex(files.safetensors);
  for (const std::string& path : {folder.path(), tensors}) {
    const auto read = ReadSnapshot(path, sha256, sample.expected);
    BOOST_REQUIRE_MESSAGE(read.ok(), (read.ok() ? "" : read.error().message));
    BOOST_TEST(read->values_digest == Digest(*RoundTo(AdapterPrecision::kF16, sample.weights)));
  }
  RequireError(ReadSnapshot(folder.path(), std::string(64, '0'), sample.expected),
               Code::kWrongAdapter, "SHA-256");
  // The digest does not cover the configuration: what it says is compared instead.
  Write(config, With(files.config, "lora_alpha", 9));
  RequireError(ReadSnapshot(folder.path(), sha256, sample.expected), Code::kWrongAdapter,
               folder.path() + ": adapter: adapter_config.json: lora_alpha 9 means");
}

BOOST_AUTO_TEST_CASE(in_a_snapshot_the_gguf_is_read_unless_the_tensors_are_named) {
  const Sample sample;
  const TempFolder folder;
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  const std::string place = folder.path() + "/" + written->uri;
  const auto gguf = ReadSnapshot(place, written->sha256, sample.expected);
  const auto peft = ReadSnapshot(place + "/adapter_model.safetensors", "", sample.expected);
  BOOST_REQUIRE((gguf.ok() && peft.ok()));
  BOOST_TEST((gguf->weights.values == peft->weights.values));
  BOOST_TEST(gguf->values_digest == peft->values_digest);
  // Or meant by their digest.
  std::ifstream file(place + "/adapter_model.safetensors", std::ios::binary);
  const std::string tensors{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto meant = ReadAdapterFiles(place, Sha256Hex(tensors));
  BOOST_REQUIRE(meant.ok());
  BOOST_TEST(meant->name == place + "/adapter_model.safetensors");
  const auto neither = ReadAdapterFiles(place, std::string(64, '0'));
  BOOST_REQUIRE(!neither.ok());
  BOOST_TEST(neither.error().message.find(written->sha256) != std::string::npos);
  BOOST_TEST(neither.error().message.find(Sha256Hex(tensors)) != std::string::npos);
}
