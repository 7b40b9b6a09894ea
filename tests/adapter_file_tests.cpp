// labels: unit
#include <ggml.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "stages/hash.h"
#include "stages/model/adapters/adapter_file.h"
#include "stages/model/adapters/peft_file.h"
#include "stages/model/adapters/safetensors.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;
namespace fs = std::filesystem;

namespace {

constexpr uint32_t kHeadSize = 8;

LoraShape SmallShape() {
  LoraShape shape;
  shape.layers = 2;
  shape.rank = 4;
  shape.alpha = 8;
  shape.in = {32, 32, 32, 32, 32, 32, 48};
  shape.out = {32, 16, 16, 32, 48, 48, 32};
  shape.enabled.fill(true);
  return shape;
}

// Values of both signs over f16's normal and subnormal range, and ties between two halves.
LoraWeights RandomWeights(const LoraShape& shape, uint64_t seed = 1) {
  LoraWeights weights{shape, std::vector<float>(shape.Size())};
  for (size_t i = 0; i < weights.values.size(); ++i) {
    const double magnitude = std::pow(10.0, -7 + 8 * UniformAt(seed, 2 * i));
    weights.values[i] =
        static_cast<float>(UniformAt(seed, 2 * i + 1) < 0.5 ? magnitude : -magnitude);
  }
  weights.values[0] = 1.0F + 1.0F / 2048;  // halfway: rounds down to 1
  weights.values[1] = 1.0F + 3.0F / 2048;  // halfway: rounds up to 1 + 2/1024
  weights.values[2] = 0.0F;
  weights.values[3] = -0.0F;
  return weights;
}

AdapterManifest ManifestOf(const LoraWeights& weights) {
  AdapterManifest manifest;
  manifest.tenant = "acme";
  manifest.version = 7;
  manifest.digest = Digest(weights);
  manifest.parent_digest = std::string(64, 'b');
  manifest.base_sha256 = std::string(64, 'a');
  manifest.base_architecture = "llama";
  manifest.steps = 12;
  manifest.examples = 11;
  manifest.corrections = 5;
  manifest.ups = 4;
  manifest.downs = 1ULL << 40;
  manifest.base_name = "HuggingFaceTB/SmolLM2-135M-Instruct";
  manifest.base_head_size = kHeadSize;
  return manifest;
}

AdapterExpectation ExpectationOf(const LoraShape& shape) {
  return {std::string(64, 'a'), "llama", shape};
}

struct Sample {
  LoraWeights weights = RandomWeights(SmallShape());
  AdapterManifest manifest = ManifestOf(weights);
  AdapterExpectation expected = ExpectationOf(weights.shape);
  std::string bytes = EncodeGguf(weights, manifest).value();
};

// Puts the right checksum over altered bytes: what a forger would do.
std::string Reseal(std::string bytes) {
  const size_t key = bytes.find("nudge.checksum");
  if (key == std::string::npos || bytes.size() < key + 14 + 12 + 64) return bytes;
  const size_t digits = key + 14 + 12;
  bytes.replace(digits, 64, 64, '0');
  return bytes.replace(digits, 64, Sha256Hex(bytes));
}

std::string Replace(std::string bytes, const std::string& from, const std::string& to) {
  const size_t at = bytes.find(from);
  BOOST_REQUIRE(at != std::string::npos);
  BOOST_REQUIRE_EQUAL(from.size(), to.size());
  return bytes.replace(at, from.size(), to);
}

template <class T>
std::string Patch(std::string bytes, size_t at, T value) {
  BOOST_REQUIRE_LE(at + sizeof value, bytes.size());
  std::memcpy(&bytes[at], &value, sizeof value);
  return bytes;
}

template <class T>
void RequireError(const Result<T>& result, Code code, const std::string& part = "") {
  BOOST_REQUIRE(!result.ok());
  BOOST_TEST(static_cast<int>(result.error().code) == static_cast<int>(code));
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message);
}

template <class T>
void RequireOk(const Result<T>& result) {
  const std::string message = result.ok() ? "" : result.error().message;
  BOOST_REQUIRE_EQUAL(message, "");
}

// IEEE binary16 to binary32, one value at a time, straight from the definition.
float FromHalf(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return static_cast<float>((half & 0x8000) ? -magnitude : magnitude);
}

std::vector<float> ValuesOf(const SafetensorsTensor& tensor) {
  std::vector<float> values(tensor.data.size() / ElementSize(tensor.type));
  for (size_t i = 0; i < values.size(); ++i) {
    if (tensor.type == SafetensorsType::kF32) {
      std::memcpy(&values[i], &tensor.data[4 * i], 4);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, &tensor.data[2 * i], 2);
      values[i] = FromHalf(half);
    }
  }
  return values;
}

// All files and folders below, sorted.
std::vector<std::string> EntriesOf(const TempFolder& folder) {
  std::vector<std::string> entries;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    entries.push_back(fs::relative(entry.path(), folder.path()).string());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

// ggml prints every reason for which it refuses a file.
struct QuietGgml {
  QuietGgml() {
    ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  }
};
BOOST_TEST_GLOBAL_FIXTURE(QuietGgml);

BOOST_AUTO_TEST_SUITE(gguf)

BOOST_AUTO_TEST_CASE(weights_come_back_rounded_to_f16_and_the_manifest_whole) {
  const Sample sample;
  const auto imported = DecodeGguf(sample.bytes, sample.expected);
  RequireOk(imported);
  BOOST_TEST((imported->manifest == sample.manifest));
  BOOST_TEST((imported->weights.shape == sample.weights.shape));
  BOOST_TEST(imported->values_digest == Digest(imported->weights));
  BOOST_TEST(imported->values_digest != sample.manifest.digest);
  const auto& values = imported->weights.values;
  BOOST_REQUIRE_EQUAL(values.size(), sample.weights.values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const float original = sample.weights.values[i];
    // Half a unit in the last place: 2^-11 relative, 2^-25 below the normal range.
    BOOST_REQUIRE_LE(std::abs(values[i] - original),
                     std::max(std::ldexp(std::abs(original), -11), std::ldexp(1.0F, -25)));
  }
  BOOST_TEST(values[0] == 1.0F);
  BOOST_TEST(values[1] == 1.0F + 2.0F / 1024);
  BOOST_TEST(std::signbit(values[3]));
}

BOOST_AUTO_TEST_CASE(an_f32_file_keeps_every_bit_and_so_the_learners_digest) {
  const Sample sample;
  const auto bytes =
      EncodeGguf(sample.weights, sample.manifest, {.precision = AdapterPrecision::kF32});
  BOOST_REQUIRE(bytes.ok());
  const auto imported = DecodeGguf(*bytes, sample.expected);
  BOOST_REQUIRE(imported.ok());
  BOOST_TEST(imported->values_digest == sample.manifest.digest);
  BOOST_TEST(std::memcmp(imported->weights.values.data(), sample.weights.values.data(),
                         sample.weights.values.size() * sizeof(float)) == 0);
}

BOOST_AUTO_TEST_CASE(rounding_twice_changes_nothing) {
  const Sample sample;
  const auto once = RoundTo(AdapterPrecision::kF16, sample.weights);
  BOOST_REQUIRE(once.ok());
  const auto twice = RoundTo(AdapterPrecision::kF16, *once);
  BOOST_REQUIRE(twice.ok());
  BOOST_TEST(Digest(*once) == Digest(*twice));
  BOOST_TEST(DecodeGguf(sample.bytes, sample.expected)->values_digest == Digest(*once));
}

BOOST_AUTO_TEST_CASE(equal_adapters_give_equal_bytes_and_one_changed_value_other_bytes) {
  Sample sample;
  BOOST_TEST((EncodeGguf(sample.weights, sample.manifest).value() == sample.bytes));
  sample.weights.values[17] += 1;
  BOOST_TEST((EncodeGguf(sample.weights, sample.manifest).value() != sample.bytes));
}

BOOST_AUTO_TEST_CASE(modules_that_are_not_enabled_and_rank_one_round_trip) {
  LoraShape shape = SmallShape();
  shape.rank = 1;
  shape.enabled = {true, false, true, false, false, false, true};
  shape.in[1] = shape.out[1] = 0;
  const LoraWeights weights = RandomWeights(shape);
  const auto bytes = EncodeGguf(weights, ManifestOf(weights));
  BOOST_REQUIRE(bytes.ok());
  const auto imported = DecodeGguf(*bytes, ExpectationOf(shape));
  RequireOk(imported);
  BOOST_TEST((imported->weights.shape == shape));
}

BOOST_AUTO_TEST_CASE(an_unsealed_encoding_differs_only_in_digests_and_is_no_import) {
  const Sample sample;
  const auto bytes = EncodeGguf(sample.weights, sample.manifest, {.sealed = false});
  BOOST_REQUIRE(bytes.ok());
  const size_t tensors = sample.weights.shape.Size() * 2;
  BOOST_TEST((bytes->substr(bytes->size() - tensors) ==
              sample.bytes.substr(sample.bytes.size() - tensors)));
  RequireError(DecodeGguf(*bytes, sample.expected), Code::kUnreadableFile, "checksum");
}

BOOST_AUTO_TEST_CASE(weights_and_manifests_that_no_import_would_take_are_not_encoded) {
  const Sample sample;
  const auto refuses = [&](auto change, const std::string& part) {
    Sample changed;
    change(changed.weights, changed.manifest);
    RequireError(EncodeGguf(changed.weights, changed.manifest), Code::kWrongAdapter, part);
    RequireError(EncodeGguf(changed.weights, changed.manifest, {.sealed = false}),
                 Code::kWrongAdapter, part);
    RequireError(EncodePeft(changed.weights, changed.manifest), Code::kWrongAdapter, part);
  };
  const float infinity = std::numeric_limits<float>::infinity();
  refuses([&](auto& w, auto&) { w.values.back() = std::nanf(""); }, "not finite");
  refuses([&](auto& w, auto&) { w.values[100] = -infinity; }, "not finite");
  refuses([&](auto& w, auto&) { w.values[100] = 65520; }, "65504");
  refuses([&](auto& w, auto&) { w.values.pop_back(); }, "values");
  refuses([&](auto& w, auto&) { w.shape.rank = 0; }, "rank 0");
  refuses([&](auto& w, auto&) { w.shape.rank = 4097; }, "rank 4097");
  refuses([&](auto& w, auto&) { w.shape.layers = 0; }, "layers");
  refuses([&](auto& w, auto&) { w.shape.layers = 4'000'000'000; }, "layers");
  refuses([&](auto& w, auto&) { w.shape.alpha = 0; }, "alpha");
  refuses([&](auto& w, auto&) { w.shape.alpha = infinity; }, "alpha");
  refuses([&](auto& w, auto&) { w.shape.in[2] = 0; }, "attn_v");
  refuses([&](auto& w, auto&) { w.shape.enabled.fill(false); }, "no module");
  refuses([&](auto&, auto& m) { m.tenant = ""; }, "tenant");
  refuses([&](auto&, auto& m) { m.tenant = std::string("a\0b", 3); }, "tenant");
  refuses([&](auto&, auto& m) { m.digest = "ABC"; }, "digest");
  refuses([&](auto&, auto& m) { m.parent_digest = "none"; }, "parent_digest");
  refuses([&](auto&, auto& m) { m.base_sha256 = std::string(64, 'A'); }, "base_sha256");
  refuses([&](auto&, auto& m) { m.base_architecture = ""; }, "architecture");
  LoraWeights large = sample.weights;
  large.values[100] = 65519;  // the last one that still rounds to 65504
  BOOST_TEST(EncodeGguf(large, sample.manifest).ok());
}

BOOST_AUTO_TEST_CASE(another_base_architecture_rank_alpha_or_module_is_refused_with_a_remedy) {
  const Sample sample;
  const auto refuses = [&](auto change, const std::string& part) {
    AdapterExpectation expected = sample.expected;
    change(expected);
    const auto result = DecodeGguf(sample.bytes, expected);
    RequireError(result, Code::kWrongAdapter, part);
    BOOST_TEST(!result.error().remedy.empty());
  };
  refuses([](auto& e) { e.base_sha256 = std::string(64, 'c'); }, std::string(64, 'c'));
  refuses([](auto& e) { e.base_architecture = "qwen2"; }, "qwen2");
  refuses([](auto& e) { e.shape.rank = 8; }, "blk.0.attn_q.weight.lora_a is [4, 32], expected [8");
  refuses([](auto& e) { e.shape.alpha = 16; }, "alpha");
  refuses([](auto& e) { e.shape.out[6] = 31; }, "blk.0.ffn_down.weight.lora_b");
  refuses([](auto& e) { e.shape.layers = 3; }, "blk.2.attn_q.weight.lora_a is missing");
  refuses([](auto& e) { e.shape.layers = 1; }, "28 tensors, expected 14");
  refuses([](auto& e) { e.shape.enabled[0] = false; }, "28 tensors, expected 24");
}

BOOST_AUTO_TEST_CASE(a_file_far_larger_than_the_expected_adapter_is_refused_before_it_is_read) {
  const Sample sample;
  const std::string large = sample.bytes + std::string(size_t{4} << 20, '\0');
  RequireError(DecodeGguf(large, sample.expected), Code::kWrongAdapter, "at most");
}

BOOST_AUTO_TEST_CASE(a_file_truncated_anywhere_is_refused) {
  const Sample sample;
  for (size_t i = 0; i < 64; ++i) {
    const std::string cut = sample.bytes.substr(0, sample.bytes.size() * i / 64);
    RequireError(DecodeGguf(cut, sample.expected), Code::kUnreadableFile);
    BOOST_TEST(!DecodeGguf(Reseal(cut), sample.expected).ok());
  }
  for (size_t size = 0; size < 200; ++size) {
    RequireError(DecodeGguf(sample.bytes.substr(0, size), sample.expected), Code::kUnreadableFile);
  }
  RequireError(DecodeGguf(sample.bytes.substr(0, sample.bytes.size() - 1), sample.expected),
               Code::kUnreadableFile, "truncated");
  RequireError(
      DecodeGguf(Reseal(sample.bytes.substr(0, sample.bytes.size() - 100)), sample.expected),
      Code::kUnreadableFile, "ends after the file");
}

BOOST_AUTO_TEST_CASE(one_flipped_bit_anywhere_is_refused) {
  const Sample sample;
  for (size_t i = 0; i < sample.bytes.size(); ++i) {
    std::string flipped = sample.bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    BOOST_REQUIRE_MESSAGE(!DecodeGguf(flipped, sample.expected).ok(), "byte " << i);
  }
}

BOOST_AUTO_TEST_CASE(forged_files_are_refused_or_hold_what_their_digest_says) {
  const Sample sample;
  const size_t metadata = sample.bytes.size() - sample.weights.shape.Size() * 2;
  size_t taken = 0;
  for (uint64_t round = 0; round < 20'000; ++round) {
    std::string forged = sample.bytes;
    for (uint64_t edit = 0; edit < 1 + round % 3; ++edit) {
      const size_t within = round % 4 == 0 ? forged.size() : metadata;
      const size_t at = static_cast<size_t>(UniformAt(round, 2 * edit) * double(within));
      forged[at] = static_cast<char>(RandomAt(round, 2 * edit + 1));
    }
    const auto result = DecodeGguf(Reseal(forged), sample.expected);
    if (!result) continue;
    ++taken;
    BOOST_REQUIRE(Digest(result->weights) == result->values_digest);
    BOOST_REQUIRE((result->weights.shape == sample.weights.shape));
  }
  BOOST_TEST(taken > 0U);  // edits of counts, for instance, keep the file well-formed
  BOOST_TEST(taken < 10'000U);
}

BOOST_AUTO_TEST_CASE(forged_numbers_names_and_sizes_are_each_refused) {
  const Sample sample;
  const auto decode = [&](const std::string& bytes) {
    return DecodeGguf(Reseal(bytes), sample.expected);
  };
  const size_t data = sample.bytes.size() - sample.weights.shape.Size() * 2;
  RequireError(decode(Patch<uint16_t>(sample.bytes, data, 0x7e00)), Code::kWrongAdapter,
               "not finite");
  RequireError(decode(Patch<uint16_t>(sample.bytes, data, 0xfc00)), Code::kWrongAdapter,
               "not finite");
  RequireError(decode(Patch<uint16_t>(sample.bytes, data + 8, 0x3c01)), Code::kWrongAdapter,
               "values_digest");
  RequireError(decode(Replace(sample.bytes, "blk.1.ffn_up", "blk.1.ffn_xx")), Code::kWrongAdapter,
               "blk.1.ffn_up.weight.lora_a is missing");
  RequireError(decode(Replace(sample.bytes, "blk.1.ffn_up", "blk.0.ffn_up")),
               Code::kUnreadableFile);
  RequireError(decode(Replace(sample.bytes, "general.type", "general.typo")),
               Code::kUnreadableFile);
  RequireError(decode(Replace(sample.bytes, "nudge.ups", "nudge.upz")), Code::kUnreadableFile,
               "nudge.ups");
  RequireError(decode(Replace(sample.bytes, "nudge.checksum", "nudge.checksun")),
               Code::kUnreadableFile, "did not write");
  const size_t format = sample.bytes.find("nudge.format") + 12 + 4;
  RequireError(decode(Patch<uint32_t>(sample.bytes, format, 2)), Code::kUnreadableFile, "format 2");
  for (uint64_t count : {uint64_t{0}, uint64_t{27}, uint64_t{1} << 40, UINT64_MAX}) {
    BOOST_TEST(!decode(Patch(sample.bytes, 8, count)).ok());   // tensors
    BOOST_TEST(!decode(Patch(sample.bytes, 16, count)).ok());  // keys
  }
  const size_t name = sample.bytes.find("blk.0.attn_q.weight.lora_b");
  const size_t dimensions = name + 26;
  for (uint32_t count : {0U, 1U, 3U, 5U, UINT32_MAX}) {
    BOOST_TEST(!decode(Patch(sample.bytes, dimensions, count)).ok());
  }
  for (uint64_t size : {uint64_t{0}, uint64_t{5}, uint64_t{1} << 62, UINT64_MAX}) {
    BOOST_TEST(!decode(Patch(sample.bytes, dimensions + 4, size)).ok());
    BOOST_TEST(!decode(Patch(sample.bytes, dimensions + 12, size)).ok());
    BOOST_TEST(!decode(Patch(sample.bytes, dimensions + 24, size + 1)).ok());  // offset
    BOOST_TEST(!decode(Patch(sample.bytes, name - 8, size)).ok());             // name's length
  }
  for (uint32_t type : {2U, 4U, 8U, 30U, 1000U, UINT32_MAX}) {
    BOOST_TEST(!decode(Patch(sample.bytes, dimensions + 20, type)).ok());
  }
}

// The fuzzer's seeds are also a record of the format: other bytes mean another nudge.format.
BOOST_AUTO_TEST_CASE(the_bytes_of_a_tiny_adapter_are_those_on_record) {
  LoraShape shape;
  shape.layers = 1;
  shape.rank = 2;
  shape.alpha = 4;
  shape.in[0] = 4;
  shape.out[0] = 4;
  shape.enabled[0] = true;
  LoraWeights weights{shape, {}};
  for (size_t i = 0; i < shape.Size(); ++i) {
    weights.values.push_back(static_cast<float>(i) / 3 - 2);
  }
  AdapterManifest manifest = ManifestOf(weights);
  manifest.base_head_size = 4;
  const std::string seeds = std::string(NUDGE_SOURCE_DIR) + "/tests/fuzz/seeds/adapter/";
  const std::map<std::string, std::string> expected{
      {"f16.gguf", EncodeGguf(weights, manifest).value()},
      {"f32.gguf", EncodeGguf(weights, manifest, {.precision = AdapterPrecision::kF32}).value()},
      {"adapter_model.safetensors", EncodePeft(weights, manifest)->safetensors},
      {"adapter_config.json", EncodePeft(weights, manifest)->config}};
  for (const auto& [name, bytes] : expected) {
    BOOST_TEST((Contents(seeds + name) == bytes), name);
    if (std::getenv("NUDGE_UPDATE_SEEDS") != nullptr) Overwrite(seeds + name, bytes);
  }
  BOOST_TEST(DecodeGguf(Contents(seeds + "f16.gguf"), ExpectationOf(shape)).ok());
}

BOOST_AUTO_TEST_CASE(what_is_no_gguf_at_all_is_refused) {
  const AdapterExpectation expected = ExpectationOf(SmallShape());
  for (const std::string& bytes : {std::string(), std::string("GGUF"), std::string(5000, 'x'),
                                   "GGUF" + std::string(5000, '\xff')}) {
    RequireError(DecodeGguf(bytes, expected), Code::kUnreadableFile);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(peft)

BOOST_AUTO_TEST_CASE(the_folder_holds_the_values_of_the_gguf_with_query_and_key_rows_in_hf_order) {
  const Sample sample;
  const auto files = EncodePeft(sample.weights, sample.manifest);
  BOOST_REQUIRE(files.ok());
  const auto parsed = ParseSafetensors(files->safetensors);
  RequireOk(parsed);
  std::map<std::string, const SafetensorsTensor*> tensors;
  for (const auto& tensor : parsed->tensors) tensors[tensor.name] = &tensor;
  const LoraWeights gguf = DecodeGguf(sample.bytes, sample.expected)->weights;
  const LoraShape& shape = gguf.shape;

  const std::array<const char*, kLoraModules> names{
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  BOOST_TEST(tensors.size() == 2 * kLoraModules * shape.layers);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      const std::string name =
          "base_model.model.model.layers." + std::to_string(layer) + "." + names[m];
      const SafetensorsTensor* a = tensors.at(name + ".lora_A.weight");
      const SafetensorsTensor* b = tensors.at(name + ".lora_B.weight");
      BOOST_TEST(a->shape == (std::vector<uint64_t>{shape.rank, shape.in[m]}));
      BOOST_TEST(b->shape == (std::vector<uint64_t>{shape.out[m], shape.rank}));
      const float* gguf_a = &gguf.values[shape.OffsetA(layer, module)];
      const float* gguf_b = &gguf.values[shape.OffsetB(layer, module)];
      const auto hf_a = ValuesOf(*a);
      const auto hf_b = ValuesOf(*b);
      BOOST_TEST(std::memcmp(hf_a.data(), gguf_a, hf_a.size() * sizeof(float)) == 0);
      // The converter's reshape(heads, 2, half, rank).swapaxes(1, 2), element by element.
      const bool swapped = m <= 1;
      std::vector<float> converted(hf_b.size());
      for (size_t head = 0; head < shape.out[m] / kHeadSize; ++head) {
        for (size_t half = 0; half < 2; ++half) {
          for (size_t i = 0; i < kHeadSize / 2; ++i) {
            const size_t from = head * kHeadSize + half * (kHeadSize / 2) + i;
            const size_t to = swapped ? head * kHeadSize + i * 2 + half : from;
            std::copy_n(&hf_b[from * shape.rank], shape.rank, &converted[to * shape.rank]);
          }
        }
      }
      BOOST_TEST(std::memcmp(converted.data(), gguf_b, hf_b.size() * sizeof(float)) == 0, name);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_configuration_says_what_peft_needs) {
  Sample sample;
  sample.weights.shape.enabled[3] = false;
  sample.weights.values.resize(sample.weights.shape.Size());
  const auto files = EncodePeft(sample.weights, sample.manifest);
  BOOST_REQUIRE(files.ok());
  const auto config = nlohmann::json::parse(files->config);
  BOOST_TEST(config["peft_type"] == "LORA");
  BOOST_TEST(config["task_type"] == "CAUSAL_LM");
  BOOST_TEST(config["r"] == 4);
  BOOST_TEST(config["lora_alpha"] == 8);
  BOOST_TEST(config["base_model_name_or_path"] == sample.manifest.base_name);
  BOOST_TEST(config["target_modules"] ==
             nlohmann::json({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}));
}

BOOST_AUTO_TEST_CASE(f32_tensors_keep_every_bit) {
  const Sample sample;
  const auto files = EncodePeft(sample.weights, sample.manifest, AdapterPrecision::kF32);
  BOOST_REQUIRE(files.ok());
  const auto parsed = ParseSafetensors(files->safetensors);
  BOOST_REQUIRE(parsed.ok());
  BOOST_TEST(parsed->metadata.at("format") == "pt");
  const auto& first = parsed->tensors.front();
  BOOST_TEST((first.type == SafetensorsType::kF32));
  BOOST_TEST(std::memcmp(first.data.data(), sample.weights.values.data(), first.data.size()) == 0);
}

BOOST_AUTO_TEST_CASE(an_unknown_architecture_or_a_head_size_that_does_not_fit_is_refused) {
  Sample sample;
  for (uint32_t head_size : {0U, 7U, 12U, 64U}) {
    sample.manifest.base_head_size = head_size;
    RequireError(EncodePeft(sample.weights, sample.manifest), Code::kWrongAdapter, "heads of");
  }
  sample.manifest.base_head_size = kHeadSize;
  sample.manifest.base_name = "\xff";
  RequireError(EncodePeft(sample.weights, sample.manifest), Code::kWrongAdapter, "UTF-8");
  sample.manifest.base_architecture = "gemma";
  RequireError(EncodePeft(sample.weights, sample.manifest), Code::kUnsupportedModel, "gemma");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(safetensors)

namespace {

std::string FileWith(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

}  // namespace

BOOST_AUTO_TEST_CASE(tensors_and_metadata_round_trip) {
  const std::string data = "0123456789abcdef";
  const auto bytes = std::as_bytes(std::span(data));
  const std::vector<SafetensorsTensor> tensors{
      {"b", SafetensorsType::kF32, {2, 1}, bytes.first(8)},
      {"a", SafetensorsType::kU8, {}, bytes.subspan(8, 1)},
      {"none", SafetensorsType::kBF16, {0, 5}, bytes.first(0)},
      {"c", SafetensorsType::kI16, {3}, bytes.subspan(9, 6)}};
  const auto file = EncodeSafetensors(tensors, {{"format", "pt"}});
  BOOST_REQUIRE(file.ok());
  const auto parsed = ParseSafetensors(*file);
  RequireOk(parsed);
  BOOST_TEST(parsed->metadata.at("format") == "pt");
  BOOST_REQUIRE_EQUAL(parsed->tensors.size(), tensors.size());
  for (const SafetensorsTensor& tensor : parsed->tensors) {
    const auto original = std::find_if(tensors.begin(), tensors.end(),
                                       [&](const auto& t) { return t.name == tensor.name; });
    BOOST_REQUIRE(original != tensors.end());
    BOOST_TEST((tensor.type == original->type));
    BOOST_TEST(tensor.shape == original->shape);
    BOOST_TEST(std::equal(tensor.data.begin(), tensor.data.end(), original->data.begin(),
                          original->data.end()));
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_a_file_is_not_encoded) {
  const std::string data = "01234567";
  const auto bytes = std::as_bytes(std::span(data));
  const auto refuses = [&](std::vector<SafetensorsTensor> tensors) {
    RequireError(EncodeSafetensors(tensors, {}), Code::kWrongAdapter);
  };
  refuses({{"", SafetensorsType::kF32, {2}, bytes}});
  refuses({{"__metadata__", SafetensorsType::kF32, {2}, bytes}});
  refuses({{"a", SafetensorsType::kF32, {2}, bytes}, {"a", SafetensorsType::kF32, {2}, bytes}});
  refuses({{"a", SafetensorsType::kF32, {3}, bytes}});
  refuses({{"a", SafetensorsType::kF32, {1ULL << 63, 1ULL << 63}, bytes}});
  refuses({{"\xff", SafetensorsType::kF32, {2}, bytes}});
}

BOOST_AUTO_TEST_CASE(every_broken_header_is_refused) {
  const std::string data(8, 'x');
  const auto entry = [](const std::string& type, const std::string& shape,
                        const std::string& offsets) {
    return "{\"dtype\":" + type + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
  };
  const std::string good = entry("\"F32\"", "[2]", "[0,8]");
  BOOST_REQUIRE(ParseSafetensors(FileWith("{\"a\":" + good + "}  ", data)).ok());
  const std::vector<std::string> headers{
      std::string(),
      std::string("[]"),
      std::string("{"),
      std::string(" {}"),
      "{\"a\":" + good + ",\"a\":" + good + "}",
      "{\"a\":1}",
      "{\"a\":{}}",
      "{\"a\":" + entry("\"F31\"", "[2]", "[0,8]") + "}",
      "{\"a\":" + entry("7", "[2]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[3]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[-2]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2.0]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "2", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2,1,1,1,1,1,1,1,1]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[9223372036854775808,2]", "[0,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2]", "[0,9]") + "}",
      "{\"a\":" + entry("\"F32\"", "[1]", "[0,4]") + "}",
      "{\"a\":" + entry("\"F32\"", "[1]", "[4,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2]", "[8,0]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2]", "[0,8,8]") + "}",
      "{\"a\":" + entry("\"F32\"", "[2]", "[0,18446744073709551615]") + "}",
      "{\"a\":" + good + ",\"b\":" + good + "}",
      "{\"__metadata__\":{\"a\":1},\"a\":" + good + "}",
      "{\"__metadata__\":[],\"a\":" + good + "}"};
  for (const std::string& header : headers) {
    BOOST_TEST_CONTEXT(header) {
      RequireError(ParseSafetensors(FileWith(header, data)), Code::kUnreadableFile);
    }
  }
  RequireError(ParseSafetensors("1234567"), Code::kUnreadableFile);
  RequireError(ParseSafetensors(Patch(FileWith("{}", ""), 0, UINT64_MAX)), Code::kUnreadableFile);
  RequireError(ParseSafetensors(FileWith(std::string(100'000, '['), "")), Code::kUnreadableFile);
}

BOOST_AUTO_TEST_CASE(truncated_and_altered_files_never_crash_the_reader) {
  const Sample sample;
  const std::string bytes = EncodePeft(sample.weights, sample.manifest)->safetensors;
  for (size_t i = 0; i < 64; ++i) {
    RequireError(ParseSafetensors(std::string_view(bytes).substr(0, bytes.size() * i / 64)),
                 Code::kUnreadableFile);
  }
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  size_t refused = 0;
  for (uint64_t round = 0; round < 1000; ++round) {
    std::string altered = bytes;
    altered[static_cast<size_t>(UniformAt(round, 0) * double(header + 8))] =
        static_cast<char>(RandomAt(round, 1));
    refused += ParseSafetensors(altered).ok() ? 0 : 1;
  }
  BOOST_TEST(refused > 500U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(snapshot_folder)

BOOST_AUTO_TEST_CASE(a_snapshot_is_four_files_that_agree_with_its_reference) {
  const Sample sample;
  const TempFolder folder;
  const std::string root = folder.path() + "/new/snapshots";
  const auto written = WriteSnapshot(root, sample.weights, sample.manifest);
  RequireOk(written);
  BOOST_TEST(written->uri.starts_with("acme/7-" + sample.manifest.digest.substr(0, 12) + "-"));
  BOOST_TEST(written->version == 7U);
  BOOST_TEST(written->digest == sample.manifest.digest);
  BOOST_TEST(written->parent_digest == sample.manifest.parent_digest);
  BOOST_TEST(written->base_sha256 == sample.manifest.base_sha256);
  const std::string place = root + "/" + written->uri;
  BOOST_TEST((Contents(place + "/adapter.gguf") == sample.bytes));
  BOOST_TEST(written->sha256 == Sha256Hex(sample.bytes));
  const auto peft = EncodePeft(sample.weights, sample.manifest);
  BOOST_TEST((Contents(place + "/adapter_model.safetensors") == peft->safetensors));
  BOOST_TEST((Contents(place + "/adapter_config.json") == peft->config));
  BOOST_TEST(EntriesOf(folder).size() == 8U);  // new, snapshots, acme, 7-..., four files
}

BOOST_AUTO_TEST_CASE(a_snapshot_is_open_to_its_group_and_to_nobody_else_whatever_the_umask) {
  const Sample sample;
  for (const mode_t mask : {0000, 0077}) {
    const TempFolder folder;
    const mode_t before = umask(mask);
    const auto written =
        WriteSnapshot(folder.path() + "/out/snapshots", sample.weights, sample.manifest);
    umask(before);
    RequireOk(written);
    const auto mode = [&](const std::string& path) {
      return fs::status(folder.path() + "/" + path).permissions();
    };
    BOOST_TEST((mode("out") == fs::perms(0700)));
    for (const std::string& made : {std::string("out/snapshots"), std::string("out/snapshots/acme"),
                                    "out/snapshots/" + written->uri}) {
      BOOST_TEST((mode(made) == fs::perms(0750)), made);
    }
    for (const char* file :
         {"adapter.gguf", "adapter_model.safetensors", "adapter_config.json", "manifest.json"}) {
      BOOST_TEST((mode("out/snapshots/" + written->uri + "/" + file) == fs::perms(0640)), file);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_manifest_and_the_adapter_read_back) {
  const Sample sample;
  const TempFolder folder;
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  const std::string place = folder.path() + "/" + written->uri;
  for (const std::string& path : {place, place + "/manifest.json"}) {
    const auto manifest = ReadSnapshotManifest(path);
    RequireOk(manifest);
    BOOST_TEST((manifest->adapter == sample.manifest));
    BOOST_TEST((manifest->shape == sample.weights.shape));
    BOOST_TEST(manifest->files.size() == 3U);
    for (const auto& [name, file] : manifest->files) {
      const std::string bytes = Contents(place + "/" + name);
      BOOST_TEST(file.size_bytes == bytes.size());
      BOOST_TEST(file.sha256 == Sha256Hex(bytes));
    }
    const auto read = ReadSnapshot(place, written->sha256, sample.expected);
    BOOST_REQUIRE(read.ok());
    BOOST_TEST(read->values_digest == manifest->values_digest);
  }
  RequireError(ReadSnapshot(place, std::string(64, '0'), sample.expected), Code::kWrongAdapter,
               "SHA-256");
  RequireError(ReadSnapshot(place + "/nothing", "", sample.expected), Code::kWrongAdapter,
               "is not there");
  RequireError(ReadSnapshot("/dev/zero", "", sample.expected), Code::kUnreadableFile, "not a file");
}

BOOST_AUTO_TEST_CASE(writing_the_same_again_changes_nothing) {
  const Sample sample;
  const TempFolder folder;
  const auto first = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(first.ok());
  const std::string file = folder.path() + "/" + first->uri + "/adapter.gguf";
  const auto before = fs::last_write_time(file);
  const auto entries = EntriesOf(folder);
  const auto second = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(second.ok());
  BOOST_TEST((*first == *second));
  BOOST_TEST((fs::last_write_time(file) == before));
  BOOST_TEST(EntriesOf(folder) == entries);
}

BOOST_AUTO_TEST_CASE(equal_weights_under_another_manifest_are_another_snapshot) {
  Sample sample;
  const TempFolder folder;
  const auto first = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  sample.manifest.examples += 1;
  const auto second = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE((first.ok() && second.ok()));
  BOOST_TEST(first->uri != second->uri);
}

BOOST_AUTO_TEST_CASE(a_snapshot_found_damaged_is_reported_and_left_alone) {
  const Sample sample;
  const TempFolder folder;
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  const std::string place = folder.path() + "/" + written->uri;
  for (const char* name :
       {"adapter.gguf", "adapter_model.safetensors", "adapter_config.json", "manifest.json"}) {
    const std::string good = Contents(place + "/" + name);
    Overwrite(place + "/" + name, good.substr(1));
    RequireError(WriteSnapshot(folder.path(), sample.weights, sample.manifest),
                 Code::kUnreadableFile, std::string(name) + " is damaged");
    BOOST_TEST((Contents(place + "/" + name) == good.substr(1)));
    Overwrite(place + "/" + name, good);
  }
  fs::remove(place + "/adapter.gguf");
  RequireError(WriteSnapshot(folder.path(), sample.weights, sample.manifest), Code::kUnreadableFile,
               "damaged");
}

BOOST_AUTO_TEST_CASE(what_a_killed_writer_left_is_removed_by_the_next) {
  const Sample sample;
  const TempFolder folder;
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  const fs::path place = folder.path() + "/" + written->uri;
  fs::rename(place, place.parent_path() / (".tmp-" + place.filename().string() + "-aBcDeF"));
  fs::create_directory(place.parent_path() / ".tmp-6-other-aBcDeF");
  const auto again = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(again.ok());
  BOOST_TEST((*again == *written));
  BOOST_TEST(EntriesOf(folder).size() == 7U);  // acme, the other's leftover, the snapshot's five
}

BOOST_AUTO_TEST_CASE(tenants_cannot_leave_the_folder_or_share_one) {
  const std::vector<std::string> tenants{"..",
                                         ".",
                                         "a/b",
                                         "a=2Fb",
                                         "/etc/passwd",
                                         "a\\b",
                                         "a b",
                                         "a%2Fb",
                                         "ärger",
                                         "-rf",
                                         "a.b",
                                         ".hidden",
                                         "../../x",
                                         "a\nb",
                                         "A",
                                         "a",
                                         std::string(300, 'x'),
                                         std::string(301, 'x'),
                                         std::string(300, '/')};
  std::vector<std::string> names;
  for (const std::string& tenant : tenants) {
    const std::string name = FolderNameOf(tenant);
    BOOST_TEST(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789-_.=") == std::string::npos,
               name);
    BOOST_TEST(name.front() != '.');
    BOOST_TEST(name.size() <= 160U);
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  BOOST_TEST((std::adjacent_find(names.begin(), names.end()) == names.end()));
  BOOST_TEST(FolderNameOf("a/../b") == "a=2F..=2Fb");
  BOOST_TEST(FolderNameOf("..") == "=2E.");

  Sample sample;
  const TempFolder folder;
  sample.manifest.tenant = "../../a/..";
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  BOOST_TEST(fs::exists(folder.path() + "/" + written->uri + "/manifest.json"));
  BOOST_TEST(ReadSnapshotManifest(folder.path() + "/" + written->uri)->adapter.tenant ==
             sample.manifest.tenant);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_is_an_error_that_names_it) {
  const Sample sample;
  const TempFolder folder;
  const std::string file = folder.path() + "/file";
  Overwrite(file, "x");
  const auto result = WriteSnapshot(file, sample.weights, sample.manifest);
  RequireError(result, Code::kUnreadableFile, file);
  BOOST_TEST(result.error().remedy.find("writable") != std::string::npos);
  BOOST_TEST(Contents(file) == "x");
  RequireError(WriteSnapshot("/proc/nudge", sample.weights, sample.manifest), Code::kUnreadableFile,
               "/proc/nudge");
  if (geteuid() != 0) {  // root may write anywhere
    const std::string closed = folder.path() + "/closed";
    fs::create_directory(closed);
    fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec);
    RequireError(WriteSnapshot(closed, sample.weights, sample.manifest), Code::kUnreadableFile);
    fs::permissions(closed, fs::perms::owner_all);
  }
}

BOOST_AUTO_TEST_CASE(a_disk_that_fills_up_leaves_nothing_behind) {
  const Sample sample;
  const TempFolder folder;
  rlimit before{};
  BOOST_REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (size_t size : {size_t{0}, size_t{1000}, sample.bytes.size() - 1}) {
    rlimit limit = before;
    limit.rlim_cur = size;
    BOOST_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const auto result = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
    BOOST_REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    RequireError(result, Code::kUnreadableFile, "adapter.gguf");
    BOOST_TEST(result.error().remedy.find("make room") != std::string::npos);
    BOOST_TEST(EntriesOf(folder) == std::vector<std::string>{"acme"});
  }
  std::signal(SIGXFSZ, handler);
  BOOST_TEST(WriteSnapshot(folder.path(), sample.weights, sample.manifest).ok());
}

BOOST_AUTO_TEST_CASE(several_threads_write_their_tenants_snapshots_at_once) {
  const Sample sample;
  const TempFolder folder;
  std::array<bool, 4> ok{};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ok.size(); ++i) {
    threads.emplace_back([&, i] {
      AdapterManifest manifest = sample.manifest;
      manifest.tenant = "tenant-" + std::to_string(i);
      ok[i] = true;
      for (manifest.version = 1; manifest.version <= 5; ++manifest.version) {
        ok[i] = ok[i] && WriteSnapshot(folder.path() + "/deep", sample.weights, manifest).ok();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST((ok == std::array<bool, 4>{true, true, true, true}));
  BOOST_TEST(EntriesOf(folder).size() == 1 + 4 * (1 + 5 * 5));
}

BOOST_AUTO_TEST_CASE(weights_that_are_not_those_of_the_digest_are_not_written) {
  Sample sample;
  const TempFolder folder;
  sample.weights.values[5] += 1;
  RequireError(WriteSnapshot(folder.path(), sample.weights, sample.manifest), Code::kWrongAdapter,
               "digest");
  Sample named;
  named.manifest.tenant = "\xff\xfe";
  RequireError(WriteSnapshot(folder.path(), named.weights, named.manifest), Code::kWrongAdapter,
               "UTF-8");
  BOOST_TEST(EntriesOf(folder).empty());
}

BOOST_AUTO_TEST_CASE(a_broken_manifest_is_refused_with_what_is_wrong_in_it) {
  const Sample sample;
  const TempFolder folder;
  const auto written = WriteSnapshot(folder.path(), sample.weights, sample.manifest);
  BOOST_REQUIRE(written.ok());
  const std::string file = folder.path() + "/" + written->uri + "/manifest.json";
  const std::string good = Contents(file);
  const auto refuses = [&](const std::string& text, const std::string& part) {
    Overwrite(file, text);
    RequireError(ReadSnapshotManifest(file), Code::kUnreadableFile, part);
  };
  refuses("", "JSON");
  refuses("[1, 2]", "JSON");
  refuses(good.substr(0, good.size() / 2), "JSON");
  refuses("{}", "format");
  refuses(std::string(size_t{2} << 20, ' '), "more than");
  auto changed = nlohmann::json::parse(good);
  changed["format"] = 2;
  refuses(changed.dump(), "format 2");
  const auto without = [&](const char* key) {
    auto json = nlohmann::json::parse(good);
    json.erase(key);
    return json.dump();
  };
  refuses(without("tenant"), "tenant");
  refuses(without("counts"), "counts");
  refuses(without("files"), "files");
  changed = nlohmann::json::parse(good);
  changed["version"] = -1;
  refuses(changed.dump(), "version");
  changed["version"] = uint64_t{1} << 32;
  refuses(changed.dump(), "version");
  changed = nlohmann::json::parse(good);
  changed["shape"]["modules"]["up"] = 3;
  refuses(changed.dump(), "up");
  changed = nlohmann::json::parse(good);
  changed["files"]["adapter.gguf"] = 3;
  refuses(changed.dump(), "adapter.gguf");
  RequireError(ReadSnapshotManifest(folder.path() + "/nowhere"), Code::kUnreadableFile, "nowhere");
}

BOOST_AUTO_TEST_SUITE_END()
