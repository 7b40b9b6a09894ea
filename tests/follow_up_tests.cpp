// labels: unit
#include "stages/follow_up.h"

#include <boost/test/unit_test.hpp>

using namespace nudge;

namespace {

Query Behind(std::vector<ChatMessage> messages, const std::string& text) {
  Query query{text, {}};
  query.messages = std::move(messages);
  return query;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_turn_that_points_back_follows_on) {
  for (const char* turn :
       {"How heavy is it with the larger battery?", "Does That cost extra on Sundays?",
        "What's its longest warranty period?", "It's broken after rain, repair costs?",
        "Do children under twelve pay there?", "\u5b83\u7684\u4fdd\u4fee\u671f\u591a\u957f\uff1f",
        "\u90a3\u5468\u65e5\u535a\u7269\u9986\u5f00\u95e8\u5417\uff1f"}) {
    BOOST_TEST(FollowsOn(turn), turn);
  }
}

BOOST_AUTO_TEST_CASE(a_turn_of_few_words_follows_on) {
  for (const char* turn : {"Why?", "And on Sundays?", "How much?", "", "...", "For children?",
                           "\u591a\u5c11\u94b1\uff1f"}) {
    BOOST_TEST(FollowsOn(turn), turn);
  }
}

BOOST_AUTO_TEST_CASE(a_turn_that_says_what_it_asks_does_not_follow_on) {
  for (const char* turn : {"How heavy is the Heron touring bike?", "When does the library open?",
                           "What does a library card cost?", "Which bus goes to the airport?",
                           "\u535a\u7269\u9986\u51e0\u70b9\u5f00\u95e8\uff1f"}) {
    BOOST_TEST(!FollowsOn(turn), turn);
  }
}

BOOST_AUTO_TEST_CASE(the_last_turn_of_the_user_is_looked_for_as_well) {
  const std::vector<ChatMessage> turns = {{"user", "Where is the pool?"},
                                          {"assistant", "In the park."},
                                          {"user", "And the library?"},
                                          {"assistant", "At the market."}};
  BOOST_TEST(SearchTextOf(Behind(turns, "When does it open?")) == "library: When does it open?");
  BOOST_TEST(SearchTextOf(Behind(turns, "Which bus goes to the airport?")) ==
             "Which bus goes to the airport?");
}

BOOST_AUTO_TEST_CASE(of_a_long_turn_the_first_words_are_looked_for) {
  std::string before, first;
  for (size_t i = 0; i < kWordsBefore + 1; ++i) {
    const std::string word = std::string(1 + i, 'x');
    before += " is " + word;
    if (i < kWordsBefore) first += (i == 0 ? "" : " ") + word;
  }
  BOOST_TEST(SearchTextOf(Behind({{"user", before}}, "Why?")) == first + ": Why?");
}

BOOST_AUTO_TEST_CASE(without_a_turn_of_the_user_the_question_is_looked_for_alone) {
  BOOST_TEST(SearchTextOf(Behind({}, "When does it open?")) == "When does it open?");
  BOOST_TEST(SearchTextOf(Behind({{"assistant", "Hello."}}, "Why?")) == "Why?");
  BOOST_TEST(SearchTextOf(Behind({{"user", "And what is that?"}}, "Why?")) == "Why?");
}
