// labels: unit
// Texts that are read together have the bits that each has alone, whatever joins, ends or waits
// beside them and however little memory there is.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "stages/hash.h"
#include "stages/model/engine/text_batch.h"
#include "tests/engine_world.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr size_t kPositions = 300;

// Draws the likeliest token until there are enough, and notes all logits.
class Drawn final : public BatchText {
 public:
  Drawn(size_t prompt, uint64_t seed, size_t drawn, size_t vocabulary)
      : tokens_(RandomTokens(prompt, vocabulary, seed)), most_(prompt + drawn) {}

  std::span<const int32_t> tokens() const override { return tokens_; }
  size_t wanted_from() const override { return tokens_.size() - 1; }
  Result<bool> Take(std::span<const float> logits) override {
    seen.insert(seen.end(), logits.begin(), logits.end());
    tokens_.push_back(
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    return tokens_.size() < most_;
  }
  bool cancelled() override { return is_cancelled; }
  bool may_be_kept() override { return !is_forgotten; }

  std::vector<float> seen;
  bool is_cancelled = false;
  bool is_forgotten = false;

 private:
  std::vector<int32_t> tokens_;
  const size_t most_;
};

// The logits of all tokens from `from` on.
class Scored final : public BatchText {
 public:
  Scored(std::vector<int32_t> tokens, size_t from, size_t vocabulary)
      : tokens_(std::move(tokens)), from_(from), all_((tokens_.size() - from) * vocabulary) {}

  std::span<const int32_t> tokens() const override { return tokens_; }
  size_t wanted_from() const override { return from_; }
  Result<bool> Take(std::span<const float> logits) override {
    seen.insert(seen.end(), logits.begin(), logits.end());
    return seen.size() < all_;
  }
  bool cancelled() override { return false; }
  bool may_be_kept() override { return false; }

  std::vector<float> seen;

 private:
  const std::vector<int32_t> tokens_;
  const size_t from_, all_;
};

struct Question {
  size_t prompt;
  uint64_t seed;
  size_t drawn;
  std::string tenant;  // has an adapter unless it is "base"
};

const std::vector<Question> kQuestions = {{70, 1, 40, "ada"},  {5, 2, 90, "base"},
                                          {200, 3, 30, "bob"}, {64, 4, 33, "ada"},
                                          {1, 5, 60, "eve"},   {130, 6, 10, "base"}};

struct Trial {
  explicit Trial(const BatchLimits& limits) : batch(World().packed, limits) {}

  static EngineWorld& World() {
    static EngineWorld world(ModelOf("llama"));
    return world;
  }
  static const PackedAdapter* AdapterOf(const std::string& tenant) {
    static std::map<std::string, std::shared_ptr<const PackedAdapter>> adapters;
    if (tenant == "base") return nullptr;
    auto& adapter = adapters[tenant];
    if (!adapter) adapter = World().Adapter(tenant == "eve" ? 2 : 4, SeedOf({tenant}));
    return adapter.get();
  }

  Drawn& Ask(const Question& question) {
    texts.push_back(std::make_unique<Drawn>(question.prompt, question.seed, question.drawn,
                                            World().vocabulary()));
    batch.Add({texts.back().get(), AdapterOf(question.tenant), {question.tenant, "v1"}});
    return *texts.back();
  }
  // How many passes it took; every text must end well.
  size_t Finish(int threads = 1) {
    size_t passes = 0;
    for (; !batch.empty(); ++passes) {
      BOOST_REQUIRE(passes < 100'000);
      for (const TextBatch::End& end : batch.Step(ThreadsFor(threads))) {
        BOOST_TEST(!end.error.has_value());
      }
    }
    return passes;
  }

  TextBatch batch;
  std::vector<std::unique_ptr<Drawn>> texts;
};

BatchLimits Limits() {
  BatchLimits limits;
  limits.positions_max = kPositions;
  limits.keys_bytes_max = size_t{64} << 20;
  limits.prefix_bytes_max = 0;
  return limits;
}

BatchLimits LimitsOfPages(size_t pages, size_t prefix_pages = 0) {
  const size_t page = KeyPages::PageBytes(Trial::World().weights->shape());
  BatchLimits limits = Limits();
  limits.keys_bytes_max = pages * page;
  limits.prefix_bytes_max = prefix_pages * page;
  return limits;
}

// Each by itself, in one pass for its prompt.
const std::vector<std::vector<float>>& Alone() {
  static const std::vector<std::vector<float>> alone = [] {
    std::vector<std::vector<float>> all;
    for (const Question& question : kQuestions) {
      BatchLimits limits = Limits();
      limits.prompt_tokens_max = kPositions;
      Trial trial(limits);
      const Drawn& drawn = trial.Ask(question);
      trial.Finish();
      all.push_back(drawn.seen);
    }
    return all;
  }();
  return alone;
}

void CheckBits(const Trial& trial) {
  for (size_t i = 0; i < trial.texts.size(); ++i) {
    BOOST_TEST(SameBits(trial.texts[i]->seen, Alone()[i % kQuestions.size()]), "text " << i);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_text_has_the_bits_that_it_has_alone_in_any_batch_chunk_and_thread_count) {
  for (const size_t texts_max : {1, 2, 16}) {
    for (const size_t prompt_tokens_max : {1, 7, 64}) {
      BatchLimits limits = Limits();
      limits.texts_max = texts_max;
      limits.prompt_tokens_max = prompt_tokens_max;
      Trial trial(limits);
      for (const Question& question : kQuestions) trial.Ask(question);
      trial.Finish(texts_max == 2 ? 3 : 1);
      CheckBits(trial);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_text_that_joins_late_is_read_at_the_next_pass_and_the_others_go_on) {
  BatchLimits limits = Limits();
  limits.prompt_tokens_max = 16;
  Trial trial(limits);
  const Drawn& first = trial.Ask(kQuestions[0]);
  while (first.seen.empty()) trial.batch.Step(SerialFor());
  for (size_t i = 1; i < kQuestions.size(); ++i) {
    const size_t before = first.seen.size();
    trial.Ask(kQuestions[i]);
    trial.batch.Step(SerialFor());
    // A prompt of 200 tokens is being read meanwhile, and holds up nobody's next token.
    BOOST_TEST(first.seen.size() == before + Trial::World().vocabulary());
  }
  trial.Finish();
  CheckBits(trial);
}

BOOST_AUTO_TEST_CASE(with_pages_for_one_text_at_least_all_come_to_their_end_with_the_same_bits) {
  for (const size_t pages : {10, 11, 13, 17, 24}) {
    Trial trial(LimitsOfPages(pages));
    for (const Question& question : kQuestions) trial.Ask(question);
    trial.Finish();
    CheckBits(trial);
    BOOST_TEST(trial.batch.pages_held() == 0U);
  }
}

BOOST_AUTO_TEST_CASE(a_text_that_loses_its_pages_is_read_again_and_the_older_one_never_is) {
  Trial trial(LimitsOfPages(10));
  trial.Ask({150, 7, 140, "ada"});  // 5 pages, then 10
  trial.Ask({140, 8, 100, "bob"});  // 5 pages, then 8
  trial.Finish();
  const uint64_t once = 150 + 139 + 140 + 99;
  BOOST_TEST(trial.batch.read().computed > once);
  Trial roomy(Limits());
  roomy.Ask({150, 7, 140, "ada"});
  roomy.Ask({140, 8, 100, "bob"});
  roomy.Finish();
  BOOST_TEST(roomy.batch.read().computed == once);
  for (size_t i = 0; i < 2; ++i) BOOST_TEST(SameBits(trial.texts[i]->seen, roomy.texts[i]->seen));
}

BOOST_AUTO_TEST_CASE(a_text_waits_for_pages_in_the_order_of_arrival) {
  Trial trial(LimitsOfPages(10));
  trial.Ask({250, 7, 30, "ada"});                      // 8 pages, then 9
  const Drawn& large = trial.Ask({100, 8, 5, "bob"});  // 4: not beside it
  const Drawn& small = trial.Ask({10, 9, 5, "eve"});   // 1: there would be room
  while (large.seen.empty()) {
    trial.batch.Step(SerialFor());
    BOOST_REQUIRE((!small.seen.empty() ? !large.seen.empty() : true));
  }
  trial.Finish();
}

BOOST_AUTO_TEST_CASE(what_is_kept_of_earlier_texts_changes_no_bit_and_is_not_read_again) {
  for (const size_t pages : {10, 16, 60}) {
    Trial trial(LimitsOfPages(pages, pages - 5));
    for (int turn = 0; turn < 3; ++turn) {
      for (const Question& question : kQuestions) trial.Ask(question);
      trial.Finish();
    }
    CheckBits(trial);
    BOOST_TEST_MESSAGE(pages << " pages: computed " << trial.batch.read().computed << ", kept "
                             << trial.batch.read().kept);
    if (pages == 60) BOOST_TEST(trial.batch.read().kept > 0U);
  }
}

BOOST_AUTO_TEST_CASE(nobody_begins_from_what_another_tenant_or_version_has_left) {
  Trial trial(LimitsOfPages(60, 50));
  const size_t vocabulary = Trial::World().vocabulary();
  const auto kept_for = [&](const PrefixOwner& owner) {
    const uint64_t before = trial.batch.read().kept;
    Drawn text(100, 1, 3, vocabulary);
    trial.batch.Add({&text, nullptr, owner});
    trial.Finish();
    return trial.batch.read().kept - before;
  };
  BOOST_TEST(kept_for({"ada", "v1"}) == 0U);
  BOOST_TEST(kept_for({"ada", "v1"}) == 3 * kPageTokens);
  BOOST_TEST(kept_for({"ada", "v2"}) == 0U);
  BOOST_TEST(kept_for({"bob", "v1"}) == 0U);
  BOOST_TEST(kept_for({"", ""}) == 0U);
  BOOST_TEST(kept_for({"", ""}) == 0U);
  trial.batch.Forget("ada");
  BOOST_TEST(kept_for({"bob", "v1"}) == 3 * kPageTokens);
  BOOST_TEST(kept_for({"ada", "v1"}) == 0U);
  BOOST_TEST(kept_for({"ada", "v2"}) == 0U);
}

BOOST_AUTO_TEST_CASE(a_text_that_is_forgotten_while_it_runs_leaves_nothing) {
  Trial trial(LimitsOfPages(60, 50));
  Drawn& text = trial.Ask({100, 1, 20, "ada"});
  while (text.seen.empty()) trial.batch.Step(SerialFor());
  BOOST_TEST(trial.batch.pages_held() >= 4U);
  text.is_forgotten = true;
  trial.batch.Forget("ada");
  trial.Finish();
  BOOST_TEST(trial.batch.pages_held() == 0U);
}

BOOST_AUTO_TEST_CASE(what_is_cancelled_ends_before_the_next_pass_and_touches_no_other) {
  Trial trial(Limits());
  for (const Question& question : kQuestions) trial.Ask(question);
  for (int i = 0; i < 3; ++i) trial.batch.Step(SerialFor());
  trial.texts[2]->is_cancelled = trial.texts[4]->is_cancelled = true;
  const auto ends = trial.batch.Step(SerialFor());
  BOOST_TEST(ends.size() == 2U);
  for (const TextBatch::End& end : ends) {
    BOOST_REQUIRE(end.error.has_value());
    BOOST_TEST(end.error->message == "cancelled");
  }
  trial.Finish();
  for (const size_t i : {0, 1, 3, 5}) {
    BOOST_TEST(SameBits(trial.texts[i]->seen, Alone()[i]), "text " << i);
  }
  BOOST_TEST(trial.batch.pages_held() == 0U);
}

BOOST_AUTO_TEST_CASE(a_text_that_cannot_be_read_fails_alone) {
  Trial trial(Limits());
  for (const Question& question : kQuestions) trial.Ask(question);
  Scored wrong({1, 2, static_cast<int32_t>(Trial::World().vocabulary())}, 2,
               Trial::World().vocabulary());
  trial.batch.Add({&wrong, nullptr, {}});
  size_t failed = 0;
  while (!trial.batch.empty()) {
    for (const TextBatch::End& end : trial.batch.Step(SerialFor())) {
      BOOST_TEST(end.error.has_value() == (end.text == &wrong));
      if (end.error) ++failed;
    }
  }
  BOOST_TEST(failed == 1U);
  CheckBits(trial);
}

BOOST_AUTO_TEST_CASE(a_text_is_scored_beside_others_with_the_logits_of_one_pass) {
  const size_t vocabulary = Trial::World().vocabulary();
  const auto tokens = RandomTokens(120, vocabulary, 3);
  const auto expected = Trial::World().Logits(tokens, nullptr);
  for (const size_t from : {0, 50, 119}) {
    for (const bool beside : {false, true}) {
      Trial trial(Limits());
      if (beside) trial.Ask(kQuestions[2]);
      Scored scored(tokens, from, vocabulary);
      trial.batch.Add({&scored, nullptr, {}});
      trial.Finish();
      BOOST_TEST(SameBits(scored.seen, std::span(expected).subspan(from * vocabulary)));
    }
  }
}
