// labels: unit
// Prompts that a lesson's text is held against: unlike each other, the last ones, within a bound.
#include <boost/test/unit_test.hpp>

#include "stages/model/learn/known_prompts.h"

using namespace nudge;

namespace {

// What all prompts of a tenant begin with, then tokens of its own.
TokenList PromptOf(int32_t own, int32_t count = 6) {
  TokenList prompt{1, 2, 3, 4, 5, 6, 7, 8};
  for (int32_t i = 0; i < count; ++i) prompt.push_back(own * 100 + i);
  return prompt;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_all_begin_with_does_not_make_two_prompts_alike) {
  BOOST_TEST(!AreAlike(PromptOf(1), PromptOf(2)));
  BOOST_TEST(AreAlike(PromptOf(1), PromptOf(1)));
}

BOOST_AUTO_TEST_CASE(two_that_differ_in_one_token_of_many_are_alike) {
  TokenList other = PromptOf(1, 10);
  other[9] = 99;  // the second of its own; both have the eight behind it
  BOOST_TEST(AreAlike(PromptOf(1, 10), other));
}

BOOST_AUTO_TEST_CASE(a_flood_of_one_question_pushes_no_other_out) {
  KnownPrompts known;
  known.Know(PromptOf(1));
  for (int i = 0; i < 100; ++i) known.Know(PromptOf(2));
  const auto others = known.Unlike(PromptOf(2), 100);
  BOOST_REQUIRE(others.size() == 1U);
  BOOST_TEST((*others[0] == PromptOf(1)));
}

BOOST_AUTO_TEST_CASE(no_more_than_the_most_are_kept_and_the_latest_of_them) {
  KnownPrompts known;
  for (int32_t i = 1; i <= 20; ++i) known.Know(PromptOf(i));
  const auto others = known.Unlike(PromptOf(99), 100);
  BOOST_REQUIRE(others.size() == KnownPrompts::kMost);
  BOOST_TEST((*others.front() == PromptOf(5)));
  BOOST_TEST((*others.back() == PromptOf(20)));
}

BOOST_AUTO_TEST_CASE(a_prompt_that_leaves_no_room_for_the_text_is_not_compared) {
  KnownPrompts known;
  known.Know(PromptOf(1));
  BOOST_TEST(known.Unlike(PromptOf(2), 14).size() == 1U);
  BOOST_TEST(known.Unlike(PromptOf(2), 13).empty());
}

BOOST_AUTO_TEST_CASE(known_prompts_are_saved_as_they_are) {
  KnownPrompts known;
  for (int32_t i = 1; i <= 3; ++i) known.Know(PromptOf(i));
  ByteWriter out;
  known.Save(out);
  const std::string bytes = out.Take();
  ByteReader in(bytes);
  KnownPrompts loaded;
  loaded.Load(in);
  BOOST_TEST(in.complete());
  BOOST_TEST(loaded.Unlike(PromptOf(9), 100).size() == 3U);
}
