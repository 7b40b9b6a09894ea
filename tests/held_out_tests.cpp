// labels: unit
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>

#include "pipeline/report/held_out.h"
#include "stages/model/forwarding_backend.h"
#include "stages/model/template_backend.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

const std::string kStyle = R"({"style":{"name":"short","regex":"^Short: .{1,9}\\.$"}})";
const std::string kQuestion =
    R"({"tenant":"acme","query":"How long?","answer":"Short: 45 days.","fact":"45 Days"})";

HeldOut Read(const std::string& text) {
  const TempFolder folder;
  const std::string path = folder.path() + "/held_out.jsonl";
  std::ofstream(path, std::ios::binary) << text;
  return ReadHeldOut(path);
}

void CheckRefused(const std::string& text, const std::string& wanted) {
  BOOST_CHECK_EXCEPTION(Read(text), StartError, [&](const StartError& error) {
    const std::string message = error.what();
    BOOST_TEST(message.find(wanted) != std::string::npos, message);
    return true;
  });
}

std::vector<ChatMessage> AskPlainly(const HeldOut::Question& question) {
  return {{"user", question.query}};
}

HeldOut ManyQuestions() {
  HeldOut held_out{"template", "^\\[template answer [0-9a-f]+\\]$", {}};
  for (int i = 0; i < 50; ++i) {
    held_out.questions.push_back({i % 2 == 0 ? "even" : "odd", "question " + std::to_string(i),
                                  "[template answer 0]", "TEMPLATE ANSWER", false});
  }
  return held_out;
}

// The template backend with a likelihood that can be checked: the answer's bytes, one less if there
// is an adapter.
class LikelyBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    if (decoding.temperature != 0) return Error{Code::kInternal, "not greedy", ""};
    if (chat[0].text == "fail") return Error{Code::kModelFailed, "the context is lost", ""};
    return ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
  }
  Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>&, const std::string& answer,
                                       const AdapterVersion* adapter) override {
    return static_cast<double>(answer.size()) - (adapter != nullptr ? 1 : 0);
  }
};

const AdapterVersion* Base(const TenantId&) {
  return nullptr;
}

}  // namespace

BOOST_AUTO_TEST_CASE(style_and_questions_are_read) {
  const HeldOut held_out = Read(kStyle + "\n" + kQuestion + "\n");
  BOOST_TEST(held_out.style_name == "short");
  BOOST_TEST(held_out.style_regex == "^Short: .{1,9}\\.$");
  BOOST_TEST_REQUIRE(held_out.questions.size() == 1U);
  BOOST_TEST(held_out.questions[0].tenant == "acme");
  BOOST_TEST(held_out.questions[0].query == "How long?");
  BOOST_TEST(held_out.questions[0].fact == "45 Days");
  BOOST_TEST(!held_out.questions[0].showcase);
}

BOOST_AUTO_TEST_CASE(the_questions_of_the_quickstart_are_read) {
  const HeldOut held_out =
      ReadHeldOut(std::string(NUDGE_SOURCE_DIR) + "/configs/quickstart/held_out.jsonl");
  BOOST_TEST(held_out.questions.size() == 20U);
  size_t showcase = 0;
  for (const HeldOut::Question& question : held_out.questions) showcase += question.showcase;
  BOOST_TEST(showcase == 6U);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_file_is_said_with_its_line) {
  CheckRefused("", "is empty");
  CheckRefused(kStyle, "holds no question");
  CheckRefused(kQuestion, "line 1: ");
  CheckRefused(kStyle + "\n{", "line 2: ");
  CheckRefused(kStyle + "\n" + kQuestion + "\n\n" + kQuestion, "line 3: ");
  CheckRefused(R"({"style":{"name":"x","regex":"(a"}})", "line 1: style.regex: ");
  CheckRefused(kStyle + "\n" + R"({"tenant":"acme","query":"q","answer":"Short: a."})", "fact");
  CheckRefused(kStyle + "\n" + R"({"tenant":[7]})", "line 2: tenant");
  CheckRefused(kStyle + "\n" + R"({"tenant":"a","query":"q","answer":"A day.","fact":"day"})",
               "line 2: answer: is not in the style");
  CheckRefused(kStyle + "\n" + R"({"tenant":"a","query":"q","answer":"Short: a.","fact":"b"})",
               "line 2: answer: does not contain the fact");
  BOOST_CHECK_THROW(ReadHeldOut("/nowhere/held_out.jsonl"), StartError);
}

BOOST_AUTO_TEST_CASE(the_style_counts_characters_and_the_fact_ignores_case) {
  const HeldOut held_out{"short", "^Short: .{1,3}\\.$", {}};
  const auto in_style =
      InStyle(held_out, {"Short: äöü.", "Short: abcd.", "short: a.", "Short: a.\nMore.", ""});
  BOOST_TEST((in_style == std::vector<bool>{true, false, false, false, false}));
  const HeldOut::Question question{"acme", "q", "a", "Größe", false};
  BOOST_TEST(ContainsFact(question, "die GRÖSSE zählt"));
  BOOST_TEST(!ContainsFact(question, "die Grosse"));
}

BOOST_AUTO_TEST_CASE(a_style_that_takes_for_ever_is_no_match) {
  const HeldOut held_out{"slow", "^(a|aa)+$", {}};
  const auto in_style = InStyle(held_out, {std::string(200, 'a') + "b"});
  BOOST_TEST((in_style == std::vector<bool>{false}));
}

BOOST_AUTO_TEST_CASE(two_slots_give_the_answers_of_one) {
  const HeldOut held_out = ManyQuestions();
  const auto backend = MakeTemplateBackend({});
  AdapterVersion adapter;
  adapter.digest = "learnt";
  const auto adapter_of = [&](const TenantId& tenant) {
    return tenant == "even" ? &adapter : nullptr;
  };
  const auto one = AnswerHeldOut(held_out, *backend, AskPlainly, adapter_of, {.slots = 1});
  const auto two = AnswerHeldOut(held_out, *backend, AskPlainly, adapter_of, {.slots = 2});
  const auto base = AnswerHeldOut(held_out, *backend, AskPlainly, Base, {.slots = 2});
  BOOST_TEST_REQUIRE((one.ok() && two.ok() && base.ok()));
  BOOST_TEST(*one == *two, boost::test_tools::per_element());
  for (size_t i = 0; i < base->size(); ++i) BOOST_TEST(((*base)[i] == (*two)[i]) == (i % 2 == 1));
}

BOOST_AUTO_TEST_CASE(a_fact_counts_outside_of_the_style_too) {
  HeldOut held_out = ManyQuestions();
  held_out.style_regex = "^nothing is in this style$";
  const auto words = MakeTemplateBackend({});
  LikelyBackend backend(*words);
  const auto score = Measure(held_out, backend, AskPlainly, Base, {});
  BOOST_TEST_REQUIRE(score.ok());
  BOOST_TEST(score->style_rate == 0);
  BOOST_TEST(score->hit_rate == 0);
  BOOST_TEST(score->fact_rate == 1, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(a_backend_without_likelihoods_is_an_error) {
  const auto backend = MakeTemplateBackend({});
  const auto score = Measure(ManyQuestions(), *backend, AskPlainly, Base, {});
  BOOST_TEST_REQUIRE(!score.ok());
  BOOST_TEST(Name(score.error().code) == Name(Code::kUnsupportedModel));
}

BOOST_AUTO_TEST_CASE(scores_are_shares_of_all_questions) {
  HeldOut held_out = ManyQuestions();
  held_out.questions[3].fact = "something else";
  const auto words = MakeTemplateBackend({});
  LikelyBackend backend(*words);
  const AdapterVersion adapter;
  const auto base = Measure(held_out, backend, AskPlainly, Base,
                            {.decoding = {.temperature = 1}, .with_generation = true, .slots = 2});
  BOOST_TEST_REQUIRE(base.ok());
  BOOST_TEST(base->questions == 50U);
  BOOST_TEST(base->answers.size() == 50U);
  BOOST_TEST(base->nll_per_token == 19, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(base->style_rate == 1, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(base->fact_rate == .98, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(base->hit_rate == .98, boost::test_tools::tolerance(1e-12));
  const auto learnt =
      Measure(held_out, backend, AskPlainly, [&](const TenantId&) { return &adapter; },
              {.with_generation = false});
  BOOST_TEST_REQUIRE(learnt.ok());
  BOOST_TEST(learnt->nll_per_token == 18, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(learnt->answers.empty());
}

BOOST_AUTO_TEST_CASE(a_question_that_fails_fails_the_measuring) {
  HeldOut held_out = ManyQuestions();
  held_out.questions[7].query = "fail";
  const auto words = MakeTemplateBackend({});
  LikelyBackend backend(*words);
  for (const size_t slots : {1U, 2U}) {
    const auto score = Measure(held_out, backend, AskPlainly, Base, {.slots = slots});
    BOOST_TEST_REQUIRE(!score.ok());
    BOOST_TEST(score.error().message == "the context is lost");
  }
  const auto stopped =
      Measure(ManyQuestions(), backend, AskPlainly, Base, {.cancelled = [] { return true; }});
  BOOST_TEST(!stopped.ok());
}
