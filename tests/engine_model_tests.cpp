// labels: model
// The answer engine on the real model: the trainer's probabilities, the same bytes in any batch.
#include <boost/test/unit_test.hpp>

#include <memory>
#include <vector>

#include "stages/model/engine/pass.h"
#include "tests/engine_world.h"
#include "tests/models.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr size_t kTokens = 100;

struct RealModel {
  RealModel() {
    auto loaded = FrozenWeights::Load(ModelPath(), {.in_file = true});
    BOOST_REQUIRE(loaded.ok());
    weights = *loaded;
    auto made = PackedModel::Pack(weights, ThreadsFor(2));
    BOOST_REQUIRE(made.ok());
    packed = *made;
    adapter = RandomAdapter(weights->AdapterShape(8, 16, kAllModules), 1, 0.02f);
    auto ready = PackedAdapter::Pack(adapter, *weights);
    BOOST_REQUIRE(ready.ok());
    packed_adapter = *ready;
  }
  std::shared_ptr<const FrozenWeights> weights;
  std::shared_ptr<const PackedModel> packed;
  LoraWeights adapter;
  std::shared_ptr<const PackedAdapter> packed_adapter;
};

RealModel& Model() {
  static RealModel model;
  return model;
}

// Every token's logits of one text, read in pieces of so many tokens.
std::vector<float> Logits(EnginePass& pass, KeyPages& pool, const std::vector<int32_t>& tokens,
                          const PackedAdapter* adapter, size_t piece, int threads) {
  const size_t vocabulary = Model().weights->shape().vocabulary;
  std::vector<float> logits(tokens.size() * vocabulary);
  KeySequence sequence(pool);
  for (size_t begin = 0; begin < tokens.size(); begin += piece) {
    const EngineRows rows{&sequence,
                          std::span(tokens).subspan(begin, std::min(piece, tokens.size() - begin)),
                          adapter, WantedLogits::kAll};
    BOOST_REQUIRE(
        pass.Run({&rows, 1}, ThreadsFor(threads), std::span(logits).subspan(begin * vocabulary))
            .ok());
  }
  return logits;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_file_stays_in_its_own_form) {
  BOOST_TEST_MESSAGE(Model().packed->bytes() << " bytes packed");
  BOOST_TEST(Model().packed->bytes() < 110'000'000U);
}

BOOST_AUTO_TEST_CASE(the_trainers_probabilities_whatever_the_batch) {
  RealModel& model = Model();
  EnginePass pass(model.packed, {});
  KeyPages pool(model.weights->shape(), size_t{256} << 20);
  const size_t vocabulary = model.weights->shape().vocabulary;
  const auto tokens = RandomTokens(kTokens, vocabulary, 2);
  for (const bool adapted : {false, true}) {
    const PackedAdapter* const adapter = adapted ? model.packed_adapter.get() : nullptr;
    const auto logits = Logits(pass, pool, tokens, adapter, kTokens, 1);
    {
      Trainer trainer(model.weights, {.max_tokens = kTokens});
      const auto expected =
          trainer.Logits(tokens, adapted ? &model.adapter : nullptr, ThreadsFor(2));
      BOOST_REQUIRE(expected.ok());
      const double distance =
          RelativeL2(logits, std::vector<double>(expected->begin(), expected->end()));
      double kl = 0;
      for (size_t at = 0; at < logits.size(); at += vocabulary) {
        kl = std::max(kl, KlOf(std::span(*expected).subspan(at, vocabulary),
                               std::span(logits).subspan(at, vocabulary)));
      }
      BOOST_TEST_MESSAGE("relative L2 " << distance << ", greatest KL " << kl);
      BOOST_TEST(distance <= 1e-5);
      BOOST_TEST(kl <= 1e-9);
    }
    for (const auto& [piece, threads] :
         std::vector<std::pair<size_t, int>>{{1, 1}, {7, 2}, {33, 1}, {kTokens, 2}, {64, 3}}) {
      BOOST_TEST(SameBits(Logits(pass, pool, tokens, adapter, piece, threads), logits),
                 "pieces of " << piece << ", " << threads << " threads");
    }
  }
}

BOOST_AUTO_TEST_CASE(one_text_among_sixteen_has_the_bytes_that_it_has_alone) {
  RealModel& model = Model();
  EnginePass pass(model.packed, {});
  KeyPages pool(model.weights->shape(), size_t{256} << 20);
  const size_t vocabulary = model.weights->shape().vocabulary;
  const auto tokens = RandomTokens(24, vocabulary, 3);
  const auto expected = Logits(pass, pool, tokens, model.packed_adapter.get(), 24, 1);
  std::vector<KeySequence> sequences;
  std::vector<std::vector<int32_t>> texts;
  for (size_t i = 0; i < 16; ++i) {
    sequences.emplace_back(pool);
    texts.push_back(i == 5 ? tokens : RandomTokens(24, vocabulary, 40 + i));
  }
  std::vector<float> logits(16 * vocabulary);
  for (size_t t = 0; t < 24; ++t) {
    std::vector<EngineRows> batch;
    for (size_t i = 0; i < 16; ++i) {
      batch.push_back({&sequences[i], std::span(texts[i]).subspan(t, 1),
                       i % 2 == 1 ? model.packed_adapter.get() : nullptr, WantedLogits::kLast});
    }
    BOOST_REQUIRE(pass.Run(batch, ThreadsFor(2), logits).ok());
    BOOST_TEST(SameBits(std::span(logits).subspan(5 * vocabulary, vocabulary),
                        std::span(expected).subspan(t * vocabulary, vocabulary)));
  }
}
