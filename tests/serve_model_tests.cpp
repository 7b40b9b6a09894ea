// labels: model
// The shipped configurations of `nudge serve`, asked over HTTP; one with a real model, which learns
// from what it is told.
#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

#include "answering.h"
#include "models.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

std::string TextOf(const Json& answer) {
  return answer.at("choices").at(0).at("message").at("content");
}

// A document, a question, a correction, the question again under another id.
void Converse(Answering& served) {
  served.Answer("/v1/documents", {{"document_id", "heron"},
                                  {"title", "Heron"},
                                  {"text", "The Heron touring bike weighs 13.6 kilograms."}});
  const Json first = served.Ask("q-1", "How heavy is the Heron touring bike?");
  BOOST_TEST(!TextOf(first).empty());
  BOOST_TEST(first.at("nudge").at("citations").at(0).at("document_id") == "heron");
  served.Answer("/v1/feedback",
                {{"answer_id", "q-1"}, {"correction", "Short answer: 13.6 kilograms."}});
  const Json second = served.Ask("q-2", "How heavy is the Heron touring bike?");
  BOOST_TEST(!TextOf(second).empty());
  BOOST_TEST_MESSAGE("before: " << TextOf(first) << "\nafter: " << TextOf(second));
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_template_configuration_answers) {
  Answering served("serve-template.json");
  Converse(served);
  BOOST_TEST(served.Stream("How much does the Heron weigh?").size() == 2U);
}

BOOST_AUTO_TEST_CASE(the_models_configuration_answers_and_learns) {
  ModelPath();
  Answering served("serve-smollm.json");
  Converse(served);
  const Json third = served.Ask("q-3", "What does the Heron touring bike weigh?");
  BOOST_TEST(third.at("nudge").at("adapter").at("version").get<int>() > 0, third.dump());
  // Token by token, and what was streamed is what is committed.
  const std::vector<std::string> pieces = served.Stream("How much does the Heron weigh?");
  BOOST_TEST(pieces.size() >= 3U);
}
