// labels: unit
// The answer engine's pass over small random models of each architecture: the trainer's numbers,
// and the same bytes whatever else is in the batch.
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "stages/model/engine/pass.h"
#include "tests/engine_world.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

// Relative L2 of all logits, and the greatest KL of a row from the trainer's.
void ExpectTheTrainersLogits(EngineWorld& world, const std::vector<float>& logits,
                             const std::vector<int32_t>& tokens, const LoraWeights* adapter) {
  Trainer trainer(world.weights, {.max_tokens = 300, .max_rank = 8});
  const auto expected = trainer.Logits(tokens, adapter, SerialFor());
  BOOST_REQUIRE(expected.ok());
  const std::vector<double> wide(expected->begin(), expected->end());
  BOOST_TEST(RelativeL2(logits, wide) <= 1e-5);
  for (size_t at = 0; at < logits.size(); at += world.vocabulary()) {
    BOOST_TEST(KlOf(std::span(*expected).subspan(at, world.vocabulary()),
                    std::span(logits).subspan(at, world.vocabulary())) <= 1e-9);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_architecture_has_the_trainers_logits_with_and_without_an_adapter) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    EngineWorld world(ModelOf(architecture));
    const auto tokens = RandomTokens(150, world.vocabulary(), 1);
    ExpectTheTrainersLogits(world, world.Logits(tokens, nullptr), tokens, nullptr);
    const auto adapter = world.Adapter(5, 2);
    ExpectTheTrainersLogits(world, world.Logits(tokens, adapter.get()), tokens, &world.lora.back());
    const auto some = world.Adapter(3, 3, {true, false, true, false, false, true, false});
    ExpectTheTrainersLogits(world, world.Logits(tokens, some.get()), tokens, &world.lora.back());
  }
}

BOOST_AUTO_TEST_CASE(a_files_form_in_place_and_in_memory_give_the_same_bytes) {
  for (const ggml_type type : {GGML_TYPE_Q4_1, GGML_TYPE_Q8_0, GGML_TYPE_BF16, GGML_TYPE_F16}) {
    EngineWorld floats(BlockModel(), type);
    EngineWorld stored(BlockModel(), type, {.in_file = true});
    BOOST_TEST(floats.packed->bytes() >= floats.weights->bytes() * 9 / 10);
    if (type != GGML_TYPE_F16) BOOST_TEST(stored.packed->bytes() <= floats.packed->bytes() / 2);
    const auto tokens = RandomTokens(90, floats.vocabulary(), 3);
    const auto expected = floats.Logits(tokens, nullptr);
    ExpectTheTrainersLogits(floats, expected, tokens, nullptr);
    BOOST_TEST(SameBits(stored.Logits(tokens, nullptr), expected));
    BOOST_TEST(SameBits(stored.Logits(tokens, nullptr, {1}), expected));
  }
}

BOOST_AUTO_TEST_CASE(portable_weights_give_other_bytes_and_the_same_in_any_form_cut_and_thread) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0, GGML_TYPE_BF16}) {
    EngineWorld fused(BlockModel(), type);
    EngineWorld floats(BlockModel(), type, {.products = BaseProducts::kPortable});
    EngineWorld stored(BlockModel(), type, {.products = BaseProducts::kPortable, .in_file = true});
    BOOST_TEST((floats.packed->path() == ProductPath::kPortable));
    BOOST_TEST((fused.packed->path() == FastestPath()));
    const auto tokens = RandomTokens(90, floats.vocabulary(), 9);
    const auto adapter = floats.Adapter(5, 10);
    const auto expected = floats.Logits(tokens, adapter.get());
    ExpectTheTrainersLogits(floats, expected, tokens, &floats.lora.back());
    BOOST_TEST(!SameBits(fused.Logits(tokens, adapter.get()), expected));
    for (const std::vector<size_t>& pieces : std::vector<std::vector<size_t>>{{90}, {1}, {7, 20}}) {
      for (const int threads : {1, 3}) {
        BOOST_TEST(SameBits(stored.Logits(tokens, adapter.get(), pieces, threads), expected));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(bytes_do_not_depend_on_how_a_text_is_cut_or_on_threads) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    EngineWorld world(ModelOf(architecture));
    const auto tokens = RandomTokens(180, world.vocabulary(), 4);
    const auto adapter = world.Adapter(8, 5);
    for (const PackedAdapter* with : {static_cast<const PackedAdapter*>(nullptr), adapter.get()}) {
      const auto expected = world.Logits(tokens, with);
      for (const std::vector<size_t>& pieces :
           std::vector<std::vector<size_t>>{{1}, {7}, {33}, {32}, {100, 1, 1, 40}, {31, 2}}) {
        BOOST_TEST(SameBits(world.Logits(tokens, with, pieces), expected));
      }
      for (const int threads : {2, 3}) {
        BOOST_TEST(SameBits(world.Logits(tokens, with, {}, threads), expected));
        BOOST_TEST(SameBits(world.Logits(tokens, with, {5}, threads), expected));
      }
    }
  }
}

// Sixteen texts of different lengths with four adapters of different ranks, read side by side in
// pieces of different lengths: what each gets is what it gets alone.
BOOST_AUTO_TEST_CASE(bytes_do_not_depend_on_what_else_is_in_the_batch) {
  EngineWorld world(ModelOf("qwen2"));
  const std::vector<std::shared_ptr<const PackedAdapter>> adapters = {
      nullptr, world.Adapter(8, 6), world.Adapter(1, 7), world.Adapter(4, 8)};
  constexpr size_t kTexts = 16;
  std::vector<std::vector<int32_t>> texts;
  std::vector<std::vector<float>> expected, logits(kTexts);
  std::vector<KeySequence> sequences;
  for (size_t i = 0; i < kTexts; ++i) {
    texts.push_back(RandomTokens(40 + 7 * i, world.vocabulary(), 20 + i));
    expected.push_back(world.Logits(texts[i], adapters[i % 4].get()));
    sequences.emplace_back(*world.pool);
  }
  for (bool more = true; more;) {
    more = false;
    std::vector<EngineRows> batch;
    std::vector<size_t> who;
    for (size_t i = 0; i < kTexts; ++i) {
      const size_t done = sequences[i].length();
      const size_t count = std::min(texts[i].size() - done, 1 + (done + 3 * i) % 11);
      if (count == 0) continue;
      more = true;
      who.push_back(i);
      batch.push_back({&sequences[i], std::span(texts[i]).subspan(done, count),
                       adapters[i % 4].get(), WantedLogits::kAll});
    }
    if (!more) break;
    std::vector<float> got(EnginePass::WantedRows(batch) * world.vocabulary());
    BOOST_REQUIRE(world.pass->Run(batch, ThreadsFor(2), got).ok());
    auto from = got.begin();
    for (size_t b = 0; b < batch.size(); ++b) {
      const auto end =
          from + static_cast<std::ptrdiff_t>(batch[b].tokens.size() * world.vocabulary());
      logits[who[b]].insert(logits[who[b]].end(), from, end);
      from = end;
    }
  }
  for (size_t i = 0; i < kTexts; ++i) BOOST_TEST(SameBits(logits[i], expected[i]));
}

BOOST_AUTO_TEST_CASE(the_last_tokens_logits_are_those_of_all_and_none_costs_none) {
  EngineWorld world(ModelOf("llama"));
  const auto tokens = RandomTokens(50, world.vocabulary(), 9);
  const auto all = world.Logits(tokens, nullptr);
  KeySequence sequence(*world.pool), other(*world.pool);
  std::vector<EngineRows> batch = {
      {&sequence, std::span(tokens).first(30), nullptr, WantedLogits::kNone},
      {&other, tokens, nullptr, WantedLogits::kLast}};
  BOOST_TEST(EnginePass::WantedRows(batch) == 1U);
  std::vector<float> last(world.vocabulary());
  BOOST_REQUIRE(world.pass->Run(batch, SerialFor(), last).ok());
  const auto expected = std::span(all).last(world.vocabulary());
  BOOST_TEST(SameBits(last, expected));
  batch = {{&sequence, std::span(tokens).subspan(30, 19), nullptr, WantedLogits::kNone}};
  BOOST_REQUIRE(world.pass->Run(batch, SerialFor(), {}).ok());
  batch = {{&sequence, std::span(tokens).subspan(49), nullptr, WantedLogits::kLast}};
  last.assign(last.size(), 0);
  BOOST_REQUIRE(world.pass->Run(batch, SerialFor(), last).ok());
  BOOST_TEST(SameBits(last, expected));
}

BOOST_AUTO_TEST_CASE(a_text_that_goes_on_behind_shared_pages_has_the_same_bytes) {
  EngineWorld world(ModelOf("qwen3"));
  const auto tokens = RandomTokens(100, world.vocabulary(), 10);
  const auto expected = world.Logits(tokens, nullptr);
  KeySequence first(*world.pool);
  EngineRows rows{&first, tokens, nullptr, WantedLogits::kNone};
  BOOST_REQUIRE(world.pass->Run({&rows, 1}, SerialFor(), {}).ok());
  const size_t held = world.pool->held();
  KeySequence second(*world.pool);
  second.Share(first.pages().first(2));
  BOOST_TEST(world.pool->held() == held);
  BOOST_TEST(second.length() == 2 * kPageTokens);
  first.Clear();
  std::vector<float> rest((tokens.size() - second.length()) * world.vocabulary());
  rows = {&second, std::span(tokens).subspan(second.length()), nullptr, WantedLogits::kAll};
  BOOST_REQUIRE(world.pass->Run({&rows, 1}, SerialFor(), rest).ok());
  BOOST_TEST(SameBits(rest, std::span(expected).last(rest.size())));
}

BOOST_AUTO_TEST_CASE(pages_that_run_out_refuse_the_whole_batch_and_change_nothing) {
  EngineWorld world(ModelOf("llama"));
  const LlamaShape& shape = world.weights->shape();
  KeyPages pool(shape, 3 * KeyPages::PageBytes(shape));
  BOOST_TEST(pool.pages_max() == 3U);
  const auto tokens = RandomTokens(40, world.vocabulary(), 11);
  const auto expected = world.Logits(tokens, nullptr);
  KeySequence one(pool), other(pool);
  EngineRows rows{&one, std::span(tokens).first(20), nullptr, WantedLogits::kNone};
  BOOST_REQUIRE(world.pass->Run({&rows, 1}, SerialFor(), {}).ok());
  const std::vector<EngineRows> batch = {
      {&one, std::span(tokens).subspan(20), nullptr, WantedLogits::kNone},
      {&other, std::span(tokens), nullptr, WantedLogits::kNone}};
  const auto refused = world.pass->Run(batch, SerialFor(), {});
  BOOST_REQUIRE(!refused.ok());
  BOOST_TEST((refused.error().code == Code::kBusy));
  BOOST_TEST(pool.held() == 1U);
  BOOST_TEST(one.length() == 20U);
  BOOST_TEST(one.pages().size() == 1U);
  BOOST_TEST(other.length() == 0U);
  std::vector<float> rest(20 * world.vocabulary());
  rows = {&one, std::span(tokens).subspan(20), nullptr, WantedLogits::kAll};
  BOOST_REQUIRE(world.pass->Run({&rows, 1}, SerialFor(), rest).ok());
  BOOST_TEST(SameBits(rest, std::span(expected).last(rest.size())));
  one.Clear();
  BOOST_TEST(pool.held() == 0U);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_read_is_refused_before_anything_changes) {
  EngineWorld world(ModelOf("llama"));
  KeySequence sequence(*world.pool);
  const auto tokens = RandomTokens(301, world.vocabulary(), 12);
  const auto wide = world.Adapter(8, 13);
  EngineWorld narrow(ModelOf("llama"), GGML_TYPE_F32, {},
                     {.rows_max = 400, .positions_max = 300, .rank_max = 4});
  const auto refusal = [&](EngineWorld& of, const std::vector<EngineRows>& batch) {
    const auto ran = of.pass->Run(batch, SerialFor(), {});
    BOOST_REQUIRE(!ran.ok());
    BOOST_TEST(sequence.length() == 0U);
    BOOST_TEST(world.pool->held() == 0U);
    return ran.error();
  };
  const std::span<const int32_t> all(tokens);
  const auto none = WantedLogits::kNone;
  BOOST_TEST(refusal(world, {}).message.find("0 tokens") != std::string::npos);
  BOOST_TEST(refusal(world, {{&sequence, all.first(201), nullptr, none}})
                 .message.find("201 tokens; 1 to 200") != std::string::npos);
  BOOST_TEST(refusal(narrow, {{&sequence, all, nullptr, none}}).message.find("longer than 300") !=
             std::string::npos);
  BOOST_TEST(refusal(world, {{&sequence, {}, nullptr, none}}).message.find("without new") !=
             std::string::npos);
  BOOST_TEST(refusal(world, {{&sequence, all.first(2), nullptr, none},
                             {&sequence, all.first(3), nullptr, none}})
                 .message.find("twice") != std::string::npos);
  for (const int32_t token : {-1, static_cast<int32_t>(world.vocabulary())}) {
    BOOST_TEST(refusal(world, {{&sequence, {&token, 1}, nullptr, none}})
                   .message.find("not in the vocabulary") != std::string::npos);
  }
  const Error rank = refusal(narrow, {{&sequence, all.first(2), wide.get(), none}});
  BOOST_TEST((rank.code == Code::kWrongAdapter));
}

BOOST_AUTO_TEST_CASE(adapters_of_other_models_or_with_broken_numbers_are_not_packed) {
  EngineWorld world(ModelOf("llama"));
  LoraWeights adapter = RandomAdapter(world.weights->AdapterShape(4, 8, kAllModules), 1, 0.1f);
  BOOST_TEST(PackedAdapter::Pack(adapter, *world.weights).ok());
  LoraWeights broken = adapter;
  broken.values[7] = std::nanf("");
  LoraWeights other = adapter;
  other.shape.in[0] += 1;
  other.values.resize(other.shape.Size());
  LoraWeights shorter = adapter;
  shorter.values.pop_back();
  for (const LoraWeights& wrong : {broken, other, shorter}) {
    const auto packed = PackedAdapter::Pack(wrong, *world.weights);
    BOOST_REQUIRE(!packed.ok());
    BOOST_TEST((packed.error().code == Code::kWrongAdapter));
  }
}

BOOST_AUTO_TEST_CASE(weights_rounded_for_bf16_products_do_not_answer) {
  if (!HasBf16Products()) return;
  const TemporaryFile file("engine-bf16.gguf");
  ModelOf("llama").Write(file.path());
  const auto weights = FrozenWeights::Load(file.path(), {.products = BaseProducts::kBf16});
  BOOST_REQUIRE(weights.ok());
  const auto packed = PackedModel::Pack(*weights, SerialFor());
  BOOST_REQUIRE(!packed.ok());
  BOOST_TEST((packed.error().code == Code::kUnsupportedModel));
}
