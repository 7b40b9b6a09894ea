// labels: model
// Encoded adapters, plugged from memory into llama.cpp with the real language model.
#include <llama.h>

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "stages/hash.h"
#include "stages/model/adapters/adapter_file.h"
#include "tests/models.h"

using namespace nudge;

namespace {

template <auto kFree>
struct Freer {
  template <class T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using Model = std::unique_ptr<llama_model, Freer<llama_model_free>>;
using Context = std::unique_ptr<llama_context, Freer<llama_free>>;
using Adapter = std::unique_ptr<llama_adapter_lora, Freer<llama_adapter_lora_free>>;

const std::vector<llama_token> kTokens{504, 3575, 282, 4649, 314, 7042, 30, 1812, 359, 260, 198, 2};

struct SmolLm2 {
  SmolLm2() {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    const std::string path = testing::ModelPath();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model.reset(llama_model_load_from_file(path.c_str(), model_params));
    BOOST_REQUIRE_MESSAGE(model, "cannot load " + path + ": run scripts/setup");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 64;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context.reset(llama_init_from_model(model.get(), params));
    BOOST_REQUIRE(context);
  }

  // The context keeps a pointer: let the adapter live until another one is set, or no more decodes.
  Adapter Load(std::string bytes) const {
    std::FILE* file = fmemopen(bytes.data(), bytes.size(), "rb");
    BOOST_REQUIRE(file != nullptr);
    Adapter adapter(llama_adapter_lora_init_from_file_ptr(model.get(), file));
    std::fclose(file);
    return adapter;
  }

  // Logits at every token, under an adapter or, with nullptr, of the base.
  std::vector<float> Logits(llama_adapter_lora* adapter) const {
    float scale = 1;
    BOOST_REQUIRE(
        llama_set_adapters_lora(context.get(), &adapter, adapter == nullptr ? 0 : 1, &scale) == 0);
    llama_memory_clear(llama_get_memory(context.get()), true);
    const auto count = static_cast<int32_t>(kTokens.size());
    llama_batch batch = llama_batch_init(count, 0, 1);
    for (int32_t i = 0; i < count; ++i) {
      batch.token[i] = kTokens[static_cast<size_t>(i)];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = count;
    const int status = llama_decode(context.get(), batch);
    llama_batch_free(batch);
    BOOST_REQUIRE_EQUAL(status, 0);
    const int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
    const float* logits = llama_get_logits(context.get());
    return {logits, logits + static_cast<size_t>(vocabulary) * kTokens.size()};
  }

  Model model;
  Context context;
};

LoraShape SmolLm2Shape() {
  LoraShape shape;
  shape.layers = 30;
  shape.rank = 8;
  shape.alpha = 16;
  shape.in = {576, 576, 576, 576, 576, 576, 1536};
  shape.out = {576, 192, 192, 576, 1536, 1536, 576};
  shape.enabled.fill(true);
  return shape;
}

// Small random A; B of the given size, 0 for an adapter that has learnt nothing.
LoraWeights WeightsOf(const LoraShape& shape, float b_size) {
  LoraWeights weights{shape, std::vector<float>(shape.Size())};
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      const size_t a = shape.OffsetA(layer, module);
      const size_t b = shape.OffsetB(layer, module);
      for (size_t i = a; i < b + shape.SizeB(module); ++i) {
        const float size = i < b ? 0.04F : b_size;
        weights.values[i] = size * static_cast<float>(2 * UniformAt(7, i) - 1);
      }
    }
  }
  return weights;
}

AdapterManifest ManifestOf(const LoraWeights& weights) {
  AdapterManifest manifest;
  manifest.tenant = "acme";
  manifest.version = 1;
  manifest.digest = Digest(weights);
  manifest.base_sha256 = std::string(64, 'a');
  manifest.base_architecture = "llama";
  manifest.base_head_size = 64;
  return manifest;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Root mean square: a single logit of a model with int8 activations may jump.
double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - b[i], 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(adapter_model, SmolLm2)

BOOST_AUTO_TEST_CASE(an_adapter_whose_b_is_zero_gives_exactly_the_bases_logits) {
  const std::vector<float> base = Logits(nullptr);
  const LoraWeights weights = WeightsOf(SmolLm2Shape(), 0);
  const Adapter adapter = Load(EncodeGguf(weights, ManifestOf(weights)).value());
  BOOST_REQUIRE(adapter);
  BOOST_TEST(SameBits(Logits(adapter.get()), base));
}

BOOST_AUTO_TEST_CASE(another_b_changes_the_logits_and_taking_it_away_brings_the_base_back) {
  const std::vector<float> base = Logits(nullptr);
  const LoraWeights weights = WeightsOf(SmolLm2Shape(), 0.04F);
  const Adapter adapter = Load(EncodeGguf(weights, ManifestOf(weights)).value());
  BOOST_REQUIRE(adapter);
  BOOST_TEST(Difference(Logits(adapter.get()), base) > 0.1);
  BOOST_TEST(SameBits(Logits(nullptr), base));
}

// The int8 activations of this model turn a change of 1e-6 in the adapter into one of .25 (root
// mean square) in the logits, so the effect must stand well above that.
BOOST_AUTO_TEST_CASE(an_f16_adapter_acts_like_the_f32_one) {
  const std::vector<float> base = Logits(nullptr);
  const LoraWeights weights = WeightsOf(SmolLm2Shape(), 0.2F);
  const AdapterManifest manifest = ManifestOf(weights);
  const Adapter half = Load(EncodeGguf(weights, manifest).value());
  const Adapter full =
      Load(EncodeGguf(weights, manifest, {.precision = AdapterPrecision::kF32}).value());
  BOOST_REQUIRE((half && full));
  const std::vector<float> expected = Logits(full.get());
  const double effect = Difference(expected, base);
  const double difference = Difference(Logits(half.get()), expected);
  BOOST_TEST_MESSAGE("logits move by " << effect << ", f16 and f32 differ by " << difference);
  BOOST_TEST(effect > 1.5);
  BOOST_TEST(difference < effect / 4);
}

BOOST_AUTO_TEST_CASE(the_unsealed_bytes_for_hand_over_act_like_the_file) {
  const LoraWeights weights = WeightsOf(SmolLm2Shape(), 0.04F);
  const AdapterManifest manifest = ManifestOf(weights);
  const Adapter file = Load(EncodeGguf(weights, manifest).value());
  const auto start = std::chrono::steady_clock::now();
  const auto bytes = EncodeGguf(weights, manifest, {.sealed = false});
  const auto encoded = std::chrono::steady_clock::now();
  const Adapter hand_over = Load(bytes.value());
  const auto plugged = std::chrono::steady_clock::now();
  BOOST_REQUIRE((file && hand_over));
  using Milliseconds = std::chrono::duration<double, std::milli>;
  BOOST_TEST_MESSAGE("encoded in " << Milliseconds(encoded - start).count() << " ms, plugged in "
                                   << Milliseconds(plugged - encoded).count() << " ms");
  BOOST_TEST(SameBits(Logits(hand_over.get()), Logits(file.get())));
}

BOOST_AUTO_TEST_CASE(an_imported_adapter_encodes_to_one_that_acts_the_same) {
  const LoraShape shape = SmolLm2Shape();
  const LoraWeights weights = WeightsOf(shape, 0.04F);
  const AdapterManifest manifest = ManifestOf(weights);
  const std::string bytes = EncodeGguf(weights, manifest).value();
  const auto imported = DecodeGguf(bytes, {manifest.base_sha256, "llama", shape});
  BOOST_REQUIRE(imported.ok());
  const Adapter first = Load(bytes);
  const Adapter second = Load(EncodeGguf(imported->weights, ManifestOf(imported->weights)).value());
  BOOST_REQUIRE((first && second));
  BOOST_TEST(SameBits(Logits(first.get()), Logits(second.get())));
}

BOOST_AUTO_TEST_CASE(llama_cpp_refuses_a_cut_adapter_and_one_of_another_shape) {
  const LoraWeights weights = WeightsOf(SmolLm2Shape(), 0.04F);
  const std::string bytes = EncodeGguf(weights, ManifestOf(weights)).value();
  BOOST_TEST(!Load(bytes.substr(0, bytes.size() / 2)));
  LoraShape other = SmolLm2Shape();
  other.out[1] = 128;
  const LoraWeights wrong = WeightsOf(other, 0);
  BOOST_TEST(!Load(EncodeGguf(wrong, ManifestOf(wrong)).value()));
}

BOOST_AUTO_TEST_SUITE_END()
