// labels: unit
// Credit of voices: it takes a few lessons to lose and a few to win back, and a new name does not
// help where all others have lost theirs.
#include <boost/test/unit_test.hpp>

#include "stages/model/learn/credit.h"

using namespace nudge;

namespace {

constexpr double kUsual = 4;

// Lessons that are learnt, of `count` with this evidence each.
int Learnt(Credit& credit, const Voice& voice, double evidence, int count) {
  int learnt = 0;
  for (int i = 0; i < count; ++i) {
    credit.Book(voice, evidence, kUsual);
    learnt += credit.Of(voice) > 0 ? 1 : 0;
  }
  return learnt;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_follows_from_its_question_is_always_learnt) {
  Credit credit;
  BOOST_TEST(Learnt(credit, {1, 1}, 10, 50) == 50);
  BOOST_TEST(credit.Of({1, 1}) == Credit::kMost);
}

BOOST_AUTO_TEST_CASE(the_same_said_to_everybody_is_not_learnt) {
  Credit credit;
  BOOST_TEST(Learnt(credit, {1, 1}, 0, 50) == 0);
  BOOST_TEST(credit.Of({1, 1}) == Credit::kLeast);
  BOOST_TEST(Learnt(credit, {1, 1}, 10, 4) == 0);
  BOOST_TEST(Learnt(credit, {1, 1}, 10, 4) == 4);
}

BOOST_AUTO_TEST_CASE(now_and_then_an_answer_that_follows_from_nothing_is_learnt_too) {
  Credit credit;
  int learnt = 0;
  for (int i = 0; i < 50; ++i) learnt += Learnt(credit, {1, 1}, i % 5 == 4 ? 0 : 10, 1);
  BOOST_TEST(learnt == 50);
  // Said first, it waits until the voice has credit.
  BOOST_TEST(Learnt(credit, {2, 1}, 0, 1) == 0);
  BOOST_TEST(Learnt(credit, {2, 1}, 10, 1) == 1);
}

BOOST_AUTO_TEST_CASE(a_voice_that_turns_is_found_out_within_three_lessons) {
  Credit credit;
  Learnt(credit, {1, 1}, 10, 50);
  BOOST_TEST(Learnt(credit, {1, 1}, -2, 20) == 2);
}

BOOST_AUTO_TEST_CASE(a_new_name_begins_with_what_the_others_have) {
  Credit nonsense;
  int learnt = 0;
  for (uint64_t name = 1; name <= 30; ++name) learnt += Learnt(nonsense, {1, name}, 0, 1);
  BOOST_TEST(learnt <= 2);
  // Where the others are sound, one bad source with many names takes little from a new one.
  Credit mixed;
  for (uint64_t source = 1; source <= 6; ++source) Learnt(mixed, {source, source}, 10, 10);
  learnt = 0;
  for (uint64_t name = 1; name <= 40; ++name) learnt += Learnt(mixed, {9, name}, 0, 3);
  BOOST_TEST(learnt <= 2);
  BOOST_TEST(mixed.Of({10, 10}) == Credit::kStart);
  BOOST_TEST(mixed.Of({9, 100}) < 0);
}

BOOST_AUTO_TEST_CASE(a_saved_credit_goes_on_as_it_was_and_stays_small) {
  Credit credit;
  for (uint64_t name = 1; name <= 3000; ++name) credit.Book({1, name}, 10, kUsual);
  ByteWriter out;
  credit.Save(out);
  const std::string bytes = out.Take();
  BOOST_TEST(bytes.size() < 40 * Credit::kVoicesMax);
  Credit loaded;
  ByteReader in(bytes);
  loaded.Load(in);
  BOOST_TEST(in.complete());
  for (Credit* one : {&credit, &loaded}) one->Book({2, 7}, 0, kUsual);
  ByteWriter again;
  ByteWriter same;
  credit.Save(again);
  loaded.Save(same);
  BOOST_TEST((again.Take() == same.Take()));
}
