// labels: model
// PEFT folders between nudge and others: numpy reads what nudge writes, and what numpy writes nudge
// takes into the real language model.
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "stages/hash.h"
#include "stages/model/adapters/peft_file.h"
#include "stages/model/adapters/snapshot_folder.h"
#include "stages/model/local_backend.h"
#include "stages/model/serve/language_model.h"
#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/trainer.h"
#include "tests/models.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

using namespace nudge;
using nudge::testing::ModelPath;
using nudge::testing::TempFolder;

namespace {

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  BOOST_REQUIRE_MESSAGE(file, "cannot read " + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFolder(const std::string& folder, const PeftFiles& files) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/adapter_config.json", std::ios::binary) << files.config;
  std::ofstream(folder + "/adapter_model.safetensors", std::ios::binary) << files.safetensors;
}

// Through Debian's Python, which has numpy.
std::vector<double> ThroughNumpy(const std::string& folder, const std::string& elsewhere) {
  const std::string deltas = folder + "/deltas.f64";
  const std::string command = "/usr/bin/python3 '" NUDGE_SOURCE_DIR "/tests/peft_numpy.py' '" +
                              folder + "' '" + deltas + "' '" + elsewhere + "'";
  BOOST_REQUIRE_MESSAGE(std::system(command.c_str()) == 0, command);
  const std::string bytes = Content(deltas);
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

AdapterManifest ManifestOf(const LoraWeights& weights, const std::string& architecture,
                           uint32_t head_size) {
  AdapterManifest manifest;
  manifest.tenant = "acme";
  manifest.digest = Digest(weights);
  manifest.base_sha256 = std::string(64, 'a');
  manifest.base_architecture = architecture;
  manifest.base_head_size = head_size;
  return manifest;
}

// scale B A of one module in Hugging Face's order of rows, from the values that the GGUF holds.
std::vector<double> Delta(const LoraWeights& weights, uint32_t layer, LoraModule module,
                          size_t interleaved_head) {
  const LoraShape& shape = weights.shape;
  const auto m = static_cast<size_t>(module);
  const float* a = weights.values.data() + shape.OffsetA(layer, module);
  const float* b = weights.values.data() + shape.OffsetB(layer, module);
  std::vector<double> delta;
  for (size_t row = 0; row < shape.out[m]; ++row) {
    size_t from = row;
    if (interleaved_head != 0) {
      const size_t half = interleaved_head / 2;
      const size_t in_head = row % interleaved_head;
      from = row - in_head + 2 * (in_head % half) + in_head / half;
    }
    for (size_t column = 0; column < shape.in[m]; ++column) {
      double sum = 0;
      for (size_t r = 0; r < shape.rank; ++r) {
        sum += static_cast<double>(b[from * shape.rank + r]) *
               static_cast<double>(a[r * shape.in[m] + column]);
      }
      delta.push_back(sum * static_cast<double>(shape.alpha) / shape.rank);
    }
  }
  return delta;
}

// As Python sorts the names of modules: mlp.down, mlp.gate, mlp.up, self_attn.k, o, q, v.
constexpr std::array kSorted = {LoraModule::kDown, LoraModule::kGate,   LoraModule::kUp,
                                LoraModule::kKey,  LoraModule::kOutput, LoraModule::kQuery,
                                LoraModule::kValue};

// Of the real model, with exact products.
LocalBackendOptions ImportsFrom(const TempFolder& folder) {
  LocalBackendOptions options;
  options.language_model = ModelPath();
  options.slots = 1;
  options.window_tokens = 512;
  options.products = "f32";
  options.import_folder = folder.path();
  return options;
}

}  // namespace

BOOST_AUTO_TEST_CASE(numpy_reads_what_is_exported_and_what_numpy_writes_is_imported) {
  LoraShape shape;
  shape.layers = 2;
  shape.rank = 4;
  shape.alpha = 10;
  shape.in = {24, 24, 24, 32, 24, 24, 40};
  shape.out = {32, 16, 16, 24, 40, 40, 24};
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const auto& modules : {std::array{true, true, true, true, true, true, true},
                                std::array{false, false, false, false, true, true, true},
                                std::array{true, false, true, false, false, false, false}}) {
      shape.enabled = modules;
      const LoraWeights weights =
          RoundTo(AdapterPrecision::kF16, nudge::testing::RandomAdapter(shape, 5, 0.3f)).value();
      const TempFolder folder;
      WriteFolder(folder.path() + "/ours",
                  EncodePeft(weights, ManifestOf(weights, architecture, 8)).value());
      const auto read = ThroughNumpy(folder.path() + "/ours", folder.path() + "/theirs");
      std::vector<double> expected;
      for (uint32_t layer = 0; layer < shape.layers; ++layer) {
        for (const LoraModule module : kSorted) {
          if (!modules[static_cast<size_t>(module)]) continue;
          const bool moved = std::string(architecture) == "llama" &&
                             (module == LoraModule::kQuery || module == LoraModule::kKey);
          const auto delta = Delta(weights, layer, module, moved ? 8 : 0);
          expected.insert(expected.end(), delta.begin(), delta.end());
        }
      }
      BOOST_REQUIRE_EQUAL(read.size(), expected.size());
      double worst = 0;
      for (size_t i = 0; i < read.size(); ++i) {
        worst = std::max(worst, std::fabs(read[i] - expected[i]));
      }
      BOOST_TEST(worst < 1e-12);

      const auto back = ReadSnapshot(folder.path() + "/theirs", "",
                                     {std::string(64, 'a'), architecture, shape, 8});
      BOOST_REQUIRE_MESSAGE(back.ok(), (back.ok() ? "" : back.error().message));
      for (size_t i = 0; i < weights.values.size(); ++i) {
        const float size = std::fabs(weights.values[i]);
        BOOST_REQUIRE(std::fabs(back->weights.values[i] - weights.values[i]) <= size / 256);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_peft_folder_of_the_mlp_alone_serves_as_the_trainer_computes_it) {
  const TempFolder folder;
  LocalBackendOptions options = ImportsFrom(folder);
  options.learner.rank = 4;
  options.learner.alpha = 8;
  options.learner.scale = "rslora";
  options.learner.modules = {false, false, false, false, true, true, true};
  options.learner.anchors_per_step = 0;
  const auto backend = MakeLocalBackend(options);

  const auto base = FrozenWeights::Load(ModelPath());
  BOOST_REQUIRE(base.ok());
  const LoraShape shape = AdapterShape(**base, options.learner);
  const LoraWeights weights = nudge::testing::RandomAdapter(shape, 9, 0.08f);
  AdapterManifest manifest = ManifestOf(weights, "llama", 64);
  manifest.base_sha256 = backend->base_sha256();
  WriteFolder(folder.path() + "/ours", EncodePeft(weights, manifest).value());
  (void)ThroughNumpy(folder.path() + "/ours", folder.path() + "/theirs");

  const auto sha256 = Sha256Hex(Content(folder.path() + "/theirs/adapter_model.safetensors"));
  const auto version = backend->ImportVersion("theirs", sha256);
  BOOST_REQUIRE_MESSAGE(version.ok(), (version.ok() ? "" : version.error().message));
  const auto read =
      ReadSnapshot(folder.path() + "/theirs", sha256, {manifest.base_sha256, "llama", shape, 64});
  BOOST_REQUIRE(read.ok());
  BOOST_TEST((*version)->digest == read->values_digest);

  // What llama.cpp serves moves as the trainer's own numbers do: its activations have 8 bits.
  const std::vector<ChatMessage> chat = {{"user", "How many keys come with the lock?"}};
  const auto served_base = backend->NegativeLogLikelihood(chat, "Three keys.", nullptr);
  const auto served = backend->NegativeLogLikelihood(chat, "Three keys.", version->get());
  BOOST_REQUIRE((served_base.ok() && served.ok()));
  LanguageModel model(ModelPath(), {.slots = 1, .window_tokens = 512});
  auto tokens = model.RenderTokens(chat).value();
  const size_t begin = tokens.size();
  const auto answer = model.Tokenize("Three keys.", false, false).value();
  tokens.insert(tokens.end(), answer.begin(), answer.end());
  tokens.push_back(model.end_of_turn());
  Trainer trainer(*base, {128, 4});
  const auto parallel = nudge::testing::ThreadsFor(2);
  const double trained_base =
      trainer.NegativeLogLikelihood(tokens, begin, nullptr, parallel).value();
  const double trained =
      trainer.NegativeLogLikelihood(tokens, begin, &read->weights, parallel).value();
  BOOST_TEST_MESSAGE("NLL served " << *served_base << " -> " << *served << ", trainer "
                                   << trained_base << " -> " << trained);
  BOOST_TEST(std::fabs(trained - trained_base) > 0.3);
  BOOST_TEST(std::fabs((*served - *served_base) - (trained - trained_base)) < 0.15);

  // Exported again it is the same adapter.
  const auto snapshot = backend->WriteSnapshot(folder.path(), "acme", 1, **version);
  BOOST_REQUIRE(snapshot.ok());
  const auto again = backend->ImportVersion(snapshot->uri + "/adapter_model.safetensors", "");
  BOOST_REQUIRE(again.ok());

  const auto refused = [&](const std::string& path, const std::string& digest, Code code) {
    const auto result = backend->ImportVersion(path, digest);
    BOOST_REQUIRE(!result.ok());
    BOOST_TEST((result.error().code == code), result.error().message);
    for (const std::string& text : {result.error().message, result.error().remedy}) {
      BOOST_TEST(!text.empty());
      BOOST_TEST(text.find(folder.path()) == std::string::npos, text);
    }
  };
  refused("theirs", std::string(64, '0'), Code::kWrongAdapter);
  refused("../theirs", sha256, Code::kWrongAdapter);
  refused("nothing", sha256, Code::kWrongAdapter);
  const std::string config = Content(folder.path() + "/theirs/adapter_config.json");
  std::ofstream(folder.path() + "/theirs/adapter_config.json", std::ios::binary)
      << "{\"use_dora\": true, " << config.substr(config.find('{') + 1);
  refused("theirs", sha256, Code::kUnreadableFile);  // use_dora is given twice
}

BOOST_AUTO_TEST_CASE(an_adapter_that_has_learnt_nothing_yet_answers_as_the_base_does) {
  const TempFolder folder;
  const LocalBackendOptions options = ImportsFrom(folder);
  const auto backend = MakeLocalBackend(options);
  const auto base = FrozenWeights::Load(ModelPath());
  BOOST_REQUIRE(base.ok());
  LoraWeights weights =
      nudge::testing::RandomAdapter(AdapterShape(**base, options.learner), 4, 0.1f);
  for (uint32_t layer = 0; layer < weights.shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      if (!weights.shape.enabled[m]) continue;
      const size_t begin = weights.shape.OffsetB(layer, static_cast<LoraModule>(m));
      std::fill_n(weights.values.begin() + static_cast<std::ptrdiff_t>(begin),
                  size_t{weights.shape.out[m]} * weights.shape.rank, 0.0f);
    }
  }
  AdapterManifest manifest = ManifestOf(weights, "llama", 64);
  manifest.base_sha256 = backend->base_sha256();
  const PeftFiles files = EncodePeft(weights, manifest).value();
  WriteFolder(folder.path() + "/fresh", files);
  const auto version = backend->ImportVersion("fresh", Sha256Hex(files.safetensors));
  BOOST_REQUIRE_MESSAGE(version.ok(), (version.ok() ? "" : version.error().message));
  const auto says = [&](const std::string& question, const AdapterVersion* adapter) {
    const Decoding greedy{.temperature = 0, .max_tokens = 24};
    return backend->Generate(0, {{"user", question}}, adapter, greedy, 0, {})->text;
  };
  for (const char* question : {"How many keys come with the lock?", "Name a colour."}) {
    BOOST_TEST(says(question, version->get()) == says(question, nullptr));
  }
}

BOOST_AUTO_TEST_CASE(an_import_that_finds_the_model_changed_names_it_without_its_folder) {
  const TempFolder folder;
  const std::string model = folder.path() + "/a-model.gguf";
  std::filesystem::copy_file(ModelPath(), model);
  LocalBackendOptions options;
  options.language_model = model;
  options.slots = 1;
  options.window_tokens = 512;
  options.import_folder = folder.path() + "/imports";
  const auto backend = MakeLocalBackend(options);
  std::filesystem::create_directories(options.import_folder);
  std::ofstream(options.import_folder + "/adapter.gguf") << "GGUF";
  std::filesystem::remove(model);
  const auto version = backend->ImportVersion("adapter.gguf", "");
  BOOST_REQUIRE(!version.ok());
  for (const std::string& text : {version.error().message, version.error().remedy}) {
    BOOST_TEST(text.find(folder.path()) == std::string::npos, text);
  }
  BOOST_TEST(version.error().message.find("a-model.gguf") != std::string::npos);
}
