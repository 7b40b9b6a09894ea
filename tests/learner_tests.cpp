// labels: unit
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "stages/hash.h"
#include "stages/model/learn/learner.h"
#include "tests/learner_world.h"

namespace nudge {
namespace {

using testing::Correction;
using testing::Example;
using testing::RandomTokens;
using testing::ThreadsFor;

using World = testing::LearnerWorld;

BOOST_AUTO_TEST_CASE(a_new_learner_is_the_base_model_and_its_seed_makes_its_digest) {
  World world;
  const Learner learner(*world.weights, world.options);
  const auto tokens = RandomTokens(20, 67, 1);
  BOOST_TEST(*world.trainer.LogProbability(tokens, 5, &learner.weights(), SerialFor()) ==
             *world.trainer.LogProbability(tokens, 5, nullptr, SerialFor()));
  BOOST_TEST(learner.digest() == Learner(*world.weights, world.options).digest());
  world.options.seed = 2;
  BOOST_TEST(learner.digest() != Learner(*world.weights, world.options).digest());
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_all_named_and_stop_the_start) {
  World world;
  BOOST_TEST(Problems(LearnerOptions{}).empty());
  LearnerOptions bad;
  bad.rank = 0;
  bad.optimizer.learning_rate = std::nan("");
  bad.balance_decay = 1.5;
  bad.modules.fill(false);
  const auto problems = Problems(bad);
  BOOST_REQUIRE(problems.size() == 4u);
  BOOST_TEST(problems[0] == "adapt.rank: 0 is outside 1..64");
  BOOST_TEST(problems[1] == "adapt.modules: none of q, k, v, o, gate, up, down");
  BOOST_TEST(problems[2] == "adapt.learning_rate: nan is outside 1e-08..1");
  BOOST_CHECK_THROW(Learner(*world.weights, bad), StartError);
}

BOOST_AUTO_TEST_CASE(thumbs_up_make_the_shown_answer_likelier) {
  World world;
  Learner learner(*world.weights, world.options);
  const TokenExample example = Example(1, 1);
  const double before = world.Nll(learner, example.prompt, example.shown_completion);
  for (int i = 0; i < 10; ++i) {
    const double expected = world.Nll(learner, example.prompt, example.shown_completion);
    const auto report = world.Step(learner, example);
    BOOST_REQUIRE(report.ok());
    BOOST_TEST(report->accepted);
    BOOST_TEST(std::fabs(report->nll_before - expected) < 1e-5);  // scored before it is learnt from
  }
  BOOST_TEST(world.Nll(learner, example.prompt, example.shown_completion) < before - 0.3);
  BOOST_TEST(learner.counts().ups == 10u);
}

BOOST_AUTO_TEST_CASE(a_correction_moves_towards_it_and_away_from_what_was_shown) {
  World world;
  Learner learner(*world.weights, world.options);
  const TokenExample example = Correction(2);
  const double good = world.Nll(learner, example.prompt, *example.correction);
  const double bad = world.Nll(learner, example.prompt, example.shown_completion);
  for (int i = 0; i < 10; ++i) BOOST_REQUIRE(world.Step(learner, example).ok());
  const double good_after = world.Nll(learner, example.prompt, *example.correction);
  const double bad_after = world.Nll(learner, example.prompt, example.shown_completion);
  BOOST_TEST(good_after < good - 0.3);
  BOOST_TEST(bad_after - good_after > bad - good + 0.3);
  BOOST_TEST(learner.counts().corrections == 10u);
}

BOOST_AUTO_TEST_CASE(a_stream_of_downs_alone_moves_nothing) {
  World world;
  Learner learner(*world.weights, world.options);
  const std::string before = learner.digest();
  for (uint64_t i = 0; i < 30; ++i) {
    const auto report = world.Step(learner, Example(i, -1));
    BOOST_REQUIRE(report.ok());
    BOOST_TEST(report->accepted);
    BOOST_TEST(report->nll_before > 0);
  }
  BOOST_TEST(learner.digest() == before);
  BOOST_TEST(learner.counts().downs == 30u);
}

BOOST_AUTO_TEST_CASE(a_down_among_ups_makes_the_shown_answer_less_likely_than_without_it) {
  World world;
  world.options.replay_per_lesson = 0;
  Learner with(*world.weights, world.options), without(*world.weights, world.options);
  const TokenExample down = Example(9, -1);
  for (uint64_t i = 0; i < 6; ++i) {
    BOOST_REQUIRE(world.Step(with, Example(i, 1)).ok());
    BOOST_REQUIRE(world.Step(without, Example(i, 1)).ok());
    BOOST_REQUIRE(world.Step(with, down).ok());
  }
  BOOST_TEST(world.Nll(with, down.prompt, down.shown_completion) >
             world.Nll(without, down.prompt, down.shown_completion) + 0.05);
}

BOOST_AUTO_TEST_CASE(the_weight_of_downs_fades_with_the_share_of_ups) {
  // One up, then downs: U fades by .97 an event while D grows, so w goes from .3 towards 0.
  World world;
  world.options.anchors_per_step = 0;
  world.options.replay_per_lesson = 0;
  Learner learner(*world.weights, world.options);
  BOOST_REQUIRE(world.Step(learner, Example(1, 1)).ok());
  const TokenExample down = Example(2, -1);
  const double base_nll =
      world.Nll(Learner(*world.weights, world.options), down.prompt, down.shown_completion);
  double ups = 1, downs = 0;
  for (int i = 0; i < 5; ++i) {
    const double nll = world.Nll(learner, down.prompt, down.shown_completion);
    const double h = (base_nll - nll) * static_cast<double>(down.shown_completion.size());
    const auto report = world.Step(learner, down);
    BOOST_REQUIRE(report.ok());
    ups *= 0.97;
    downs = downs * 0.97 + 1;
    const double weight = 0.3 * std::min(1.0, ups / downs);
    BOOST_TEST(std::fabs(report->loss - weight / (1 + std::exp(-h))) < 1e-5);
  }
}

BOOST_AUTO_TEST_CASE(anchors_hold_the_adapter_near_the_base) {
  const auto kl_after = [](double lambda) {
    World world;
    world.options.anchor_lambda = lambda;
    world.options.replay_per_lesson = 0;
    Learner learner(*world.weights, world.options);
    for (uint64_t i = 0; i < 25; ++i) BOOST_REQUIRE(world.Step(learner, Example(i % 3, 1)).ok());
    const auto losses =
        world.trainer.Losses(learner.weights(), world.anchors.sequences(), SerialFor());
    return losses->total / static_cast<double>(world.anchors.sequences().size());
  };
  const double free = kl_after(0);
  const double held = kl_after(1);
  BOOST_TEST(held < free / 2);
}

BOOST_AUTO_TEST_CASE(lambda_follows_the_budget_by_its_formula) {
  World world;
  world.options.kl_budget = 0.01;
  Learner learner(*world.weights, world.options);
  double lambda = 0.5, ema = 0;
  for (uint64_t i = 0; i < 15; ++i) {
    const auto report = world.Step(learner, Example(i % 3, 1));
    BOOST_REQUIRE(report.ok());
    BOOST_TEST(std::fabs(report->lambda - lambda) < 1e-12);
    ema = 0.8 * ema + 0.2 * report->kl;
    lambda *= std::exp(std::clamp(0.3 * (ema / 0.01 - 1), -0.1, 0.4));
    lambda = std::clamp(lambda, 0.03, 5.0);
  }
  BOOST_TEST(lambda > 0.5);  // the KL did go over so small a budget
}

BOOST_AUTO_TEST_CASE(a_step_over_the_kl_cap_is_taken_back) {
  World world;
  world.options.kl_cap = 1e-3;
  world.options.anchor_lambda = 0;
  world.options.optimizer.learning_rate = 2e-2;
  Learner learner(*world.weights, world.options);
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 8; ++i) {
    const std::string before = learner.digest();
    const auto report = world.Step(learner, Example(i, 1));
    BOOST_REQUIRE(report.ok());
    if (!report->accepted) {
      ++refused;
      BOOST_TEST(learner.digest() == before);
    } else {
      BOOST_TEST(learner.digest() != before);
    }
  }
  BOOST_TEST(refused > 0u);
  BOOST_TEST(learner.counts().set_aside == refused);
  BOOST_TEST(learner.counts().steps + refused == 8u);
}

// How many are refused in a row hangs on single bits of the first steps: 7 to 43 of 120 with 14
// seeds. Without the pull it would be all that follow.
BOOST_AUTO_TEST_CASE(after_a_step_over_the_kl_cap_anchors_pull_harder_until_one_passes) {
  for (const uint64_t seed : {1, 2, 3}) {
    World world;
    world.options.seed = seed;
    world.options.kl_cap = 1e-3;
    world.options.kl_budget = 1e-3;
    world.options.optimizer.learning_rate = 5e-3;
    Learner learner(*world.weights, world.options);
    double lambda = 0;
    bool is_refused = false;
    int in_a_row = 0;
    int most_in_a_row = 0;
    int refused = 0;
    for (uint64_t i = 0; i < 120; ++i) {
      const auto report = world.Step(learner, Example(i % 3, 1));
      BOOST_REQUIRE(report.ok());
      if (is_refused) BOOST_TEST(report->lambda >= lambda);
      is_refused = !report->accepted;
      lambda = report->lambda;
      refused += is_refused ? 1 : 0;
      in_a_row = is_refused ? in_a_row + 1 : 0;
      most_in_a_row = std::max(most_in_a_row, in_a_row);
    }
    BOOST_TEST(refused > 0);
    BOOST_TEST(most_in_a_row <= 60);
  }
}

BOOST_AUTO_TEST_CASE(an_example_that_cannot_be_learnt_from_leaves_every_byte_as_it_was) {
  World world;
  Learner learner(*world.weights, world.options);
  BOOST_REQUIRE(world.Step(learner, Correction(1)).ok());
  const std::string before = learner.Save();
  const auto refuse = [&](const TokenExample& example, Code code) {
    const auto report = world.Step(learner, example);
    BOOST_REQUIRE(!report.ok());
    BOOST_TEST((report.error().code == code), report.error().message);
    BOOST_TEST((learner.Save() == before));
  };
  refuse(Example(1, 0), Code::kInvalidEvent);
  refuse(Example(1, 1.5), Code::kInvalidEvent);
  refuse(Example(1, std::nan("")), Code::kInvalidEvent);
  TokenExample example = Example(1, 1);
  example.prompt.clear();
  refuse(example, Code::kInvalidEvent);
  example = Example(1, -1);
  example.shown_completion.clear();
  refuse(example, Code::kInvalidEvent);
  example = Correction(1);
  example.correction->clear();
  refuse(example, Code::kInvalidEvent);
  example = Example(1, 1);
  example.shown_completion[2] = 67;
  refuse(example, Code::kModelFailed);
  example.shown_completion = RandomTokens(400, 67, 1);
  refuse(example, Code::kModelFailed);
  example = Correction(1);
  example.shown_completion[2] = -1;
  refuse(example, Code::kModelFailed);
}

BOOST_AUTO_TEST_CASE(a_correction_without_or_with_the_same_shown_answer_is_an_up_alone) {
  World world;
  TokenExample without = Correction(3), same = Correction(3), up = Correction(3);
  without.shown_completion.clear();
  same.shown_completion = *same.correction;
  up.shown_completion = *up.correction;
  up.correction.reset();
  up.reward = 1;
  std::vector<std::string> digests;
  for (const TokenExample& example : {without, same, up}) {
    Learner learner(*world.weights, world.options);
    BOOST_REQUIRE(world.Step(learner, example).ok());
    digests.push_back(learner.digest());
  }
  BOOST_TEST(digests[0] == digests[1]);
  BOOST_TEST(digests[0] == digests[2]);
}

TokenExample Long(TokenExample example, size_t prompt_tokens) {
  example.prompt = RandomTokens(prompt_tokens, 67, 5);
  return example;
}

// Anchors have 11 to 16 rows, two a step; a correction 4 and 5 beside its prompt.
BOOST_AUTO_TEST_CASE(what_does_not_fit_goes_anchors_first_then_replay_then_what_is_pushed_away) {
  World world;
  const auto left_out = [&](const TokenExample& first, const TokenExample& second) {
    Learner learner(*world.weights, world.options);
    BOOST_REQUIRE(world.Step(learner, first).ok());
    const auto report = world.Step(learner, second);
    BOOST_REQUIRE(report.ok());
    BOOST_TEST(report->accepted);
    BOOST_TEST(report->tokens <= 300u);
    BOOST_TEST((report->left_out.anchors > 0) == (report->kl == 0));
    return std::pair(report->tokens, report->left_out);
  };
  const TokenExample up = Example(1, 1);  // 13 rows
  // 13 + 45 + 46 rows, and the anchors.
  BOOST_TEST((left_out(up, Long(Correction(2), 41)).second == LeftOut{}));
  // 13 + 139 + 140 rows fit, and leave no room for an anchor.
  const auto [tokens, left] = left_out(up, Long(Correction(2), 135));
  BOOST_TEST(tokens == 13u + 139u + 140u);
  BOOST_TEST(left.anchors >= 22u);
  BOOST_TEST(left.replayed == 0u);
  BOOST_TEST(left.pushed_away == 0u);
  // 147 + 148 rows fit alone.
  const auto [of_correction, without_replay] = left_out(up, Long(Correction(2), 143));
  BOOST_TEST(of_correction == 147u + 148u);
  BOOST_TEST(without_replay.anchors >= 22u);
  BOOST_TEST(without_replay.replayed == 13u);
  BOOST_TEST(without_replay.pushed_away == 0u);
  // 297 rows fit without the 298 of what was shown.
  const auto [of_up, alone] = left_out(up, Long(Correction(2), 293));
  BOOST_TEST(of_up == 297u);
  BOOST_TEST(alone.anchors >= 22u);
  BOOST_TEST(alone.replayed == 13u);
  BOOST_TEST(alone.pushed_away == 298u);
}

BOOST_AUTO_TEST_CASE(a_replayed_lesson_has_room_before_an_anchor) {
  World world;
  Learner learner(*world.weights, world.options);
  BOOST_REQUIRE(world.Step(learner, Long(Example(1, 1), 20)).ok());
  const auto report = world.Step(learner, Long(Example(2, 1), 250));  // 255 + 25, not 22 more
  BOOST_REQUIRE(report.ok());
  BOOST_TEST(report->left_out.replayed == 0u);
  BOOST_TEST(report->left_out.anchors > 0u);
  BOOST_TEST(report->tokens >= 280u);
}

void Teach(World& world, Learner& learner, uint64_t from, uint64_t to,
           const ParallelFor& parallel) {
  for (uint64_t i = from; i < to; ++i) {
    const TokenExample example = i % 3 == 0 ? Correction(i) : Example(i, i % 3 == 1 ? 0.5 : -1);
    BOOST_REQUIRE(world.Step(learner, example, parallel).ok());
  }
}

BOOST_AUTO_TEST_CASE(a_saved_learner_goes_on_as_if_nothing_had_happened_at_any_thread_count) {
  World world;
  world.options.replay_examples = 5;
  world.options.kl_budget = 0.1;
  Learner whole(*world.weights, world.options);
  Teach(world, whole, 0, 14, SerialFor());
  for (const uint64_t cut : {0u, 1u, 7u, 13u}) {
    for (const int threads : {1, 2, 3}) {
      Learner first(*world.weights, world.options);
      Teach(world, first, 0, cut, ThreadsFor(threads));
      auto second = Learner::Load(first.Save(), *world.weights, world.options);
      BOOST_REQUIRE(second.ok());
      BOOST_TEST((second->Save() == first.Save()));
      BOOST_TEST((second->counts() == first.counts()));
      Teach(world, *second, cut, 14, ThreadsFor(threads));
      BOOST_TEST((second->Save() == whole.Save()));
    }
  }
}

BOOST_AUTO_TEST_CASE(damaged_and_foreign_states_are_refused) {
  World world;
  Learner learner(*world.weights, world.options);
  Teach(world, learner, 0, 4, SerialFor());
  const std::string saved = learner.Save();
  const auto load = [&](std::string_view bytes) {
    return Learner::Load(bytes, *world.weights, world.options);
  };
  BOOST_REQUIRE(load(saved).ok());
  for (size_t at = 0; at < saved.size(); at += 1 + saved.size() / 50) {
    std::string bytes = saved;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    BOOST_TEST((!load(bytes).ok() && load(bytes).error().code == Code::kUnreadableFile));
    BOOST_TEST(!load(std::string_view(saved).substr(0, at)).ok());
  }
  world.options.rank = 5;
  const auto other = load(saved);
  BOOST_REQUIRE(!other.ok());
  BOOST_TEST((other.error().code == Code::kWrongAdapter));
}

// The bytes with one float of the state replaced, under a checksum that is right.
std::string WithFloat(std::string saved, size_t at, float value) {
  saved.resize(saved.size() - 32);
  std::memcpy(saved.data() + at, &value, sizeof value);
  const Sha256Digest checksum = Sha256(saved);
  saved.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  return saved;
}

BOOST_AUTO_TEST_CASE(a_state_with_a_weight_or_moment_that_is_not_finite_is_refused) {
  World world;
  Learner learner(*world.weights, world.options);
  Teach(world, learner, 0, 4, SerialFor());
  const std::string saved = learner.Save();
  const LoraWeights& weights = learner.weights();
  const std::string_view first_values(reinterpret_cast<const char*>(weights.values.data()), 64);
  const size_t values = saved.find(first_values);
  BOOST_REQUIRE(values != std::string::npos);
  const size_t bytes = weights.values.size() * sizeof(float);
  // Weights, a length, steps, first moments, a length, second moments.
  const size_t lengths = (saved.find(first_values) - 8);
  uint64_t count = 0;
  std::memcpy(&count, saved.data() + lengths, sizeof count);
  BOOST_REQUIRE(count == weights.values.size());
  const size_t firsts = values + bytes + 16;
  const size_t seconds = firsts + bytes + 8;
  for (const size_t begin : {values, firsts, seconds}) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      const auto load = [&](float value) {
        return Learner::Load(WithFloat(saved, begin + 40, value), *world.weights, world.options);
      };
      BOOST_TEST(load(0.5f).ok());
      const auto refused = load(bad);
      BOOST_REQUIRE(!refused.ok());
      BOOST_TEST((refused.error().code == Code::kUnreadableFile));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_leaves_every_byte_as_it_was) {
  World world;
  Learner learner(*world.weights, world.options);
  Teach(world, learner, 0, 3, SerialFor());
  LoraWeights huge = learner.weights();
  for (float& value : huge.values) value = 1e30f;
  BOOST_REQUIRE(learner.Adopt(&huge).ok());
  const std::string before = learner.Save();
  for (const TokenExample& example : {Example(1, 1), Example(1, -1), Correction(1)}) {
    const auto report = world.Step(learner, example);
    BOOST_REQUIRE(!report.ok());
    BOOST_TEST((report.error().code == Code::kModelFailed), report.error().message);
    BOOST_TEST((learner.Save() == before));
  }
}

BOOST_AUTO_TEST_CASE(completions_of_one_token_are_learnt) {
  World world;
  Learner learner(*world.weights, world.options);
  TokenExample example = Example(3, 1);
  example.shown_completion.resize(1);
  const double before = world.Nll(learner, example.prompt, example.shown_completion);
  for (int i = 0; i < 5; ++i) BOOST_REQUIRE(world.Step(learner, example).ok());
  BOOST_TEST(world.Nll(learner, example.prompt, example.shown_completion) < before);
  example.correction = std::vector<int32_t>{9};
  BOOST_TEST(world.Step(learner, example).ok());
}

BOOST_AUTO_TEST_CASE(anchors_that_find_no_room_cost_time_and_change_no_byte) {
  World world;
  // Room for the first of six anchors: 8 rows of the base model's 36 hidden numbers.
  const size_t one = 8 * 36 * sizeof(float);
  for (const size_t room : {size_t{0}, one, 3 * one}) {
    Learner kept(*world.weights, world.options);
    Learner computed(*world.weights, world.options);
    const auto pool = AnchorPool::Make(world.anchors.sequences(), world.trainer, SerialFor(), room);
    BOOST_REQUIRE(pool.ok());
    size_t with_states = 0;
    for (const TrainSequence& anchor : pool->sequences()) {
      with_states += anchor.base_hidden != nullptr;
    }
    BOOST_TEST(with_states == (room == 0 ? 0u : room == one ? 1u : 2u));
    for (uint64_t i = 0; i < 4; ++i) {
      BOOST_REQUIRE(world.Step(kept, Correction(i)).ok());
      BOOST_REQUIRE(computed.Step(Correction(i), world.trainer, *pool, SerialFor()).ok());
    }
    BOOST_TEST((kept.Save() == computed.Save()));
  }
  auto sequences = world.anchors.sequences();
  sequences[3].completion_begin = 0;
  BOOST_TEST(!AnchorPool::Make(sequences, world.trainer, SerialFor(), 0).ok());
}

BOOST_AUTO_TEST_CASE(a_learner_goes_on_from_weights_of_its_shape_only) {
  World world;
  Learner learner(*world.weights, world.options);
  const std::string start = learner.digest();
  Teach(world, learner, 0, 3, SerialFor());
  const LoraWeights third = learner.weights();
  Teach(world, learner, 3, 6, SerialFor());
  const std::string before = learner.Save();
  LoraWeights wrong = third;
  wrong.shape.rank = 3;
  BOOST_TEST(!learner.Adopt(&wrong).ok());
  wrong = third;
  wrong.values[5] = std::numeric_limits<float>::infinity();
  BOOST_TEST(!learner.Adopt(&wrong).ok());
  BOOST_TEST((learner.Save() == before));
  BOOST_REQUIRE(learner.Adopt(&third).ok());
  BOOST_TEST(learner.digest() == Digest(third));
  Teach(world, learner, 6, 7, SerialFor());
  BOOST_TEST(learner.digest() != Digest(third));
  BOOST_REQUIRE(learner.Adopt(nullptr).ok());
  BOOST_TEST(learner.digest() == start);
}

// ---- What is set aside --------------------------------------------------------------------------

// A correction that says the same to everybody, with a canary: what the base model finds likeliest.
TokenExample WithQuote(World& world, uint64_t seed, const Voice& voice = {1, 1}) {
  TokenExample example = Correction(seed);
  example.correction = std::vector<int32_t>(5, 7);
  example.voice = voice;
  example.place = seed + 1;
  std::vector<int32_t>& tokens = example.quote.emplace().tokens;
  tokens = RandomTokens(10, 67, seed + 300);
  example.quote->completion_begin = tokens.size();
  for (int i = 0; i < 4; ++i) {
    const auto logits = world.trainer.Logits(tokens, nullptr, SerialFor());
    const auto last = std::span(*logits).last(logits->size() / tokens.size());
    tokens.push_back(static_cast<int32_t>(std::ranges::max_element(last) - last.begin()));
  }
  return example;
}

BOOST_AUTO_TEST_CASE(a_step_that_makes_quotes_unlikely_is_set_aside) {
  World world;
  world.options.canary_drop_max = 1e-7;  // any
  Learner learner(*world.weights, world.options);
  size_t set_aside = 0;
  for (uint64_t i = 0; i < 12; ++i) {
    const std::string before = learner.digest();
    const auto report = world.Step(learner, WithQuote(world, i));
    BOOST_REQUIRE(report.ok());
    BOOST_TEST((learner.digest() == before) == !report->accepted);
    if (report->accepted) continue;
    ++set_aside;
    BOOST_TEST((report->verdict == LessonVerdict::kDamages));
    BOOST_TEST(report->canary_drop > world.options.canary_drop_max);
    BOOST_TEST(i >= Canaries::kLeast - 1);  // fewer say nothing
  }
  BOOST_TEST(set_aside > 0U);
  BOOST_TEST(learner.counts().set_aside == set_aside);
}

BOOST_AUTO_TEST_CASE(the_limit_of_damage_gives_way_to_what_is_taught_for_long) {
  Canaries canaries;
  const Canaries::Drops drops{{}, .61};
  int refused = 0;
  for (; canaries.Refuses(drops, .5) && refused < 100; ++refused) canaries.Refused();
  BOOST_TEST(refused == 5);
  canaries.Take(drops);
  BOOST_TEST(canaries.Refuses({{}, .62}, .5));   // it is nearer to where it was
  BOOST_TEST(!canaries.Refuses({{}, .60}, .5));  // no worse than it stands
}

BOOST_AUTO_TEST_CASE(what_was_set_aside_is_tried_once_more_with_a_later_lesson_of_its_voice) {
  World world;
  world.options.canary_drop_max = 1e-7;
  Learner strict(*world.weights, world.options);
  std::vector<uint64_t> waiting;  // of voice 1, the earliest first
  for (uint64_t i = 0; i < 14; ++i) {
    const auto report = world.Step(strict, WithQuote(world, i));
    std::vector<uint64_t> ended = report->refused_for_good;
    if (report->learnt_after_all) ended.push_back(*report->learnt_after_all);
    BOOST_REQUIRE(ended.size() <= 1U);
    if (!ended.empty()) {
      BOOST_TEST(ended.front() == waiting.front());
      waiting.erase(waiting.begin());
    }
    if (!report->accepted) waiting.push_back(i + 1);
  }
  BOOST_REQUIRE(!waiting.empty());
  world.options.canary_drop_max = 10;
  auto lenient = Learner::Load(strict.Save(), *world.weights, world.options);
  BOOST_REQUIRE(lenient.ok());
  BOOST_TEST(lenient->Save() == strict.Save());
  const auto other = world.Step(*lenient, WithQuote(world, 20, {2, 2}));
  BOOST_TEST(!other->learnt_after_all.has_value());  // another voice's
  const auto report = world.Step(*lenient, WithQuote(world, 21));
  BOOST_TEST(report->accepted);
  BOOST_REQUIRE(report->learnt_after_all.has_value());
  BOOST_TEST(*report->learnt_after_all == waiting.front());
}

BOOST_AUTO_TEST_CASE(of_too_many_that_wait_one_is_refused_for_good_and_named) {
  World world;
  world.options.evidence_nats = 4;  // texts drawn by chance have none
  Learner learner(*world.weights, world.options);
  std::set<uint64_t> waiting;
  size_t crowded_out = 0;
  for (uint64_t i = 0; i < 80; ++i) {
    TokenExample example = Correction(i);
    example.place = i + 1;
    const auto report = world.Step(learner, example);
    BOOST_REQUIRE(report.ok());
    if (!report->accepted) waiting.insert(i + 1);
    for (const uint64_t place : report->refused_for_good) {
      BOOST_TEST(waiting.erase(place) == 1U);
      ++crowded_out;
    }
    BOOST_TEST(waiting.size() <= 64U);
  }
  BOOST_TEST(crowded_out > 0U);
  BOOST_TEST(learner.counts().refused == crowded_out);
}

BOOST_AUTO_TEST_CASE(lessons_that_follow_from_nothing_are_set_aside_and_change_no_weight) {
  World world;
  world.options.evidence_nats = 4;  // texts drawn by chance have none
  Learner learner(*world.weights, world.options);
  BOOST_TEST(!world.Step(learner, Correction(0))->evidence.has_value());  // nothing to compare with
  std::string digest;
  for (uint64_t i = 1; i < 12; ++i) {
    if (i == 4) digest = learner.digest();
    const auto report = world.Step(learner, Correction(i));
    BOOST_REQUIRE(report.ok());
    BOOST_REQUIRE(report->evidence.has_value());
    if (i < 4) continue;
    BOOST_TEST(!report->accepted);
    BOOST_TEST((report->verdict == LessonVerdict::kUnfounded));
  }
  BOOST_TEST(learner.digest() == digest);
  BOOST_TEST(learner.counts().set_aside >= 8U);
  // A dislike that moves nothing is not set aside.
  Learner disliked(*world.weights, world.options);
  const auto moves_nothing = world.Step(disliked, Example(1, -1));
  BOOST_TEST(moves_nothing->accepted);
  BOOST_TEST((moves_nothing->verdict == LessonVerdict::kLearnt));
  // The model's own answers follow from what was asked.
  TokenExample own = Example(40, 1);
  own.own_answer = true;
  BOOST_TEST(!world.Step(learner, own)->evidence.has_value());
}

BOOST_AUTO_TEST_CASE(where_everything_is_liked_a_thumb_up_moves_nothing) {
  World world;
  world.options.replay_per_lesson = 0;
  world.options.anchors_per_step = 0;
  Learner learner(*world.weights, world.options);
  const std::string digest = learner.digest();
  TokenExample up = Example(1, 1);
  up.own_answer = true;
  for (int i = 0; i < 6; ++i) {
    const auto report = world.Step(learner, up);
    BOOST_TEST(report->accepted);
    BOOST_TEST(report->tokens == 0U);
  }
  BOOST_TEST(learner.digest() == digest);
  BOOST_REQUIRE(world.Step(learner, Example(2, -1)).ok());  // somebody objects to something
  const auto liked = world.Step(learner, up);
  BOOST_TEST(liked->loss < 0.3 * liked->nll_before);
  BOOST_TEST(learner.digest() != digest);
  const auto given = world.Step(learner, Example(1, 1));  // an answer that nudge did not give
  BOOST_TEST(given->loss > 0.99 * given->nll_before);
}

}  // namespace
}  // namespace nudge
