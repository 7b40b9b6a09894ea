// labels: unit
#include <boost/test/unit_test.hpp>

#include <vector>

#include "stages/model/learn/learner.h"
#include "stages/model/learn/quorum.h"
#include "tests/learner_world.h"

namespace nudge {
namespace {

using testing::RandomTokens;
using World = testing::LearnerWorld;

constexpr uint64_t kSame = 500, kOther = 600;  // what is said

TrainSequence Says(uint64_t text) {
  TrainSequence sequence;
  sequence.tokens = RandomTokens(8, 67, 1);
  sequence.completion_begin = sequence.tokens.size();
  const std::vector<int32_t> said = RandomTokens(6, 67, text);
  sequence.tokens.insert(sequence.tokens.end(), said.begin(), said.end());
  return sequence;
}

// All are asked the same: a model without training carries over nothing else.
TokenExample Teaches(uint64_t person, uint64_t place, uint64_t text) {
  TokenExample example;
  example.prompt = RandomTokens(8, 67, 1);
  example.correction = RandomTokens(6, 67, text);
  example.voice = {1, person};
  example.place = place;
  return example;
}

World WorldOf(uint32_t people) {
  World world;
  world.options.quorum_people = people;
  return world;
}

size_t Agreeing(World& world, const TrainSequence& lesson, const std::vector<TrainSequence>& others,
                size_t enough = 8) {
  std::vector<const TrainSequence*> asked;
  for (const TrainSequence& other : others) asked.push_back(&other);
  const Learner learner(*world.weights, world.options);
  const auto agreeing =
      CountAgreeing(learner.weights(), lesson, asked, enough, world.trainer, SerialFor());
  BOOST_REQUIRE(agreeing.ok());
  return *agreeing;
}

BOOST_AUTO_TEST_CASE(who_says_the_same_agrees_and_who_says_something_else_does_not) {
  World world;
  const std::vector<TrainSequence> others = {Says(kSame), Says(kOther), Says(kSame),
                                             Says(kOther + 1)};
  BOOST_TEST(Agreeing(world, Says(kSame), others) == 2U);
  BOOST_TEST(Agreeing(world, Says(kSame), others, 1) == 1U);  // enough
  BOOST_TEST(Agreeing(world, Says(kSame), {}) == 0U);
}

BOOST_AUTO_TEST_CASE(one_person_alone_moves_nothing_where_two_are_asked_for) {
  World world = WorldOf(2);
  Learner learner(*world.weights, world.options);
  const std::string before = learner.digest();
  for (uint64_t i = 0; i < 8; ++i) {
    const auto report = world.Step(learner, Teaches(1, 10 + i, kSame));
    BOOST_REQUIRE(report.ok());
    BOOST_TEST(!report->accepted);
    BOOST_TEST((report->verdict == LessonVerdict::kAlone));
  }
  BOOST_TEST(learner.digest() == before);
  BOOST_TEST(learner.counts().set_aside == 8U);
}

BOOST_AUTO_TEST_CASE(what_waited_for_a_second_person_is_learnt_once_there_is_one) {
  World world = WorldOf(2);
  Learner learner(*world.weights, world.options);
  BOOST_TEST(!world.Step(learner, Teaches(1, 10, kSame))->accepted);
  const auto second = world.Step(learner, Teaches(2, 11, kSame));
  BOOST_TEST(second->accepted);
  BOOST_TEST(!second->learnt_after_all.has_value());  // another's
  const auto third = world.Step(learner, Teaches(1, 12, kSame));
  BOOST_TEST(third->accepted);
  BOOST_REQUIRE(third->learnt_after_all.has_value());
  BOOST_TEST(*third->learnt_after_all == 10U);
}

BOOST_AUTO_TEST_CASE(who_is_alone_with_something_stays_alone_beside_many_who_agree) {
  World world = WorldOf(2);
  Learner learner(*world.weights, world.options);
  size_t learnt = 0, of_the_loud = 0;
  for (uint64_t i = 0; i < 30; ++i) {
    const bool is_loud = i % 3 != 0;
    const auto report = world.Step(
        learner, is_loud ? Teaches(9, 40 + i, kOther) : Teaches(1 + i / 3 % 3, 40 + i, kSame));
    BOOST_REQUIRE(report.ok());
    learnt += report->accepted ? 1 : 0;
    of_the_loud += report->accepted && is_loud ? 1 : 0;
  }
  BOOST_TEST(learnt == 9U);  // all but the first, which had nobody beside it
  BOOST_TEST(of_the_loud == 0U);
}

BOOST_AUTO_TEST_CASE(three_are_more_than_two) {
  World world = WorldOf(3);
  Learner learner(*world.weights, world.options);
  for (uint64_t i = 0; i < 6; ++i) {
    BOOST_TEST(!world.Step(learner, Teaches(1 + i % 2, 70 + i, kSame))->accepted);
  }
  BOOST_TEST(world.Step(learner, Teaches(3, 80, kSame))->accepted);
}

BOOST_AUTO_TEST_CASE(one_name_in_two_programs_is_one_person) {
  World world = WorldOf(2);
  Learner learner(*world.weights, world.options);
  TokenExample elsewhere = Teaches(1, 11, kSame);
  elsewhere.voice.source = 2;
  BOOST_TEST(!world.Step(learner, Teaches(1, 10, kSame))->accepted);
  BOOST_TEST(!world.Step(learner, elsewhere)->accepted);
}

BOOST_AUTO_TEST_CASE(a_dislike_that_moves_nothing_needs_nobody) {
  World world = WorldOf(2);
  Learner learner(*world.weights, world.options);
  const auto report = world.Step(learner, testing::Example(1, -1));
  BOOST_TEST(report->accepted);
  BOOST_TEST((report->verdict == LessonVerdict::kLearnt));
}

BOOST_AUTO_TEST_CASE(a_saved_learner_asks_the_same_people) {
  World world = WorldOf(2);
  Learner whole(*world.weights, world.options);
  std::string saved;
  for (uint64_t i = 0; i < 12; ++i) {
    if (i == 5) saved = whole.Save();
    BOOST_REQUIRE(world.Step(whole, Teaches(i % 3, 90 + i, i % 4 == 3 ? kOther : kSame)).ok());
  }
  auto again = Learner::Load(saved, *world.weights, world.options);
  BOOST_REQUIRE(again.ok());
  for (uint64_t i = 5; i < 12; ++i) {
    BOOST_REQUIRE(world.Step(*again, Teaches(i % 3, 90 + i, i % 4 == 3 ? kOther : kSame)).ok());
  }
  BOOST_TEST(again->Save() == whole.Save());
}

}  // namespace
}  // namespace nudge
