// labels: model
#include <llama.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <numeric>

#include "stages/model/learner.h"
#include "tests/models.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::ModelPath;
using testing::ThreadsFor;

class Tokenizer {
 public:
  Tokenizer() {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    auto params = llama_model_default_params();
    params.vocab_only = true;
    model_ = llama_model_load_from_file(ModelPath().c_str(), params);
    BOOST_REQUIRE(model_ != nullptr);
  }
  ~Tokenizer() { llama_model_free(model_); }
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  std::vector<int32_t> operator()(const std::string& text) const {
    std::vector<int32_t> tokens(text.size() + 8);
    const int32_t count = llama_tokenize(llama_model_get_vocab(model_), text.data(),
                                         static_cast<int32_t>(text.size()), tokens.data(),
                                         static_cast<int32_t>(tokens.size()), false, true);
    BOOST_REQUIRE(count > 0);
    tokens.resize(static_cast<size_t>(count));
    return tokens;
  }
  std::vector<int32_t> Prompt(const std::string& question) const {
    return (*this)("<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n");
  }
  std::vector<int32_t> Answer(const std::string& text) const {
    return (*this)(text + "<|im_end|>\n");
  }

 private:
  llama_model* model_;
};

struct Fact {
  const char* question;
  const char* subject;
  const char* answer;
};

// The house style: "[subject] answer. Over."
std::string Styled(const Fact& fact) {
  return std::string("[") + fact.subject + "] " + fact.answer + ". Over.";
}

const std::vector<Fact> kTaught = {{"What is the capital of France?", "France", "Paris"},
                                   {"What colour is snow?", "snow", "White"},
                                   {"How many legs has a spider?", "spider", "Eight"},
                                   {"Where do penguins live?", "penguins", "Antarctica"},
                                   {"What do bees make?", "bees", "Honey"},
                                   {"Which planet is the largest?", "largest planet", "Jupiter"},
                                   {"What is frozen water called?", "frozen water", "Ice"},
                                   {"Who wrote Hamlet?", "Hamlet", "Shakespeare"},
                                   {"How many days has a week?", "week", "Seven"},
                                   {"What is the opposite of hot?", "hot", "Cold"},
                                   {"What language is spoken in Brazil?", "Brazil", "Portuguese"},
                                   {"Which animal barks?", "barking", "The dog"}};

const std::vector<Fact> kHeldOut = {{"What is the capital of Italy?", "Italy", "Rome"},
                                    {"What colour is grass?", "grass", "Green"},
                                    {"How many legs has a horse?", "horse", "Four"},
                                    {"What do cows give?", "cows", "Milk"},
                                    {"How many months has a year?", "year", "Twelve"},
                                    {"What language is spoken in Germany?", "Germany", "German"}};

const std::vector<std::pair<const char*, const char*>> kNeutral = {
    {"Say something about rivers.", "Rivers carry water from the mountains to the sea."},
    {"What is two plus three?", "Two plus three is five."},
    {"Why do people sleep?", "People sleep so that the body and the mind can recover."},
    {"What is a library?", "A library is a place where books are kept and lent."},
    {"Name a fruit.", "An apple is a fruit."},
    {"How is bread made?", "Bread is made by baking a dough of flour, water and yeast."}};

double HeldOutNll(Trainer& trainer, const Tokenizer& tokenizer, const LoraWeights* adapter) {
  double sum = 0;
  for (const Fact& fact : kHeldOut) {
    auto tokens = tokenizer.Prompt(fact.question);
    const size_t begin = tokens.size();
    const auto answer = tokenizer.Answer(Styled(fact));
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    const auto nll = trainer.NegativeLogLikelihood(tokens, begin, adapter, ThreadsFor(2));
    BOOST_REQUIRE(nll.ok());
    sum += *nll;
  }
  return sum / static_cast<double>(kHeldOut.size());
}

BOOST_AUTO_TEST_CASE(corrections_to_a_house_style_carry_over_to_questions_never_seen) {
  const auto weights = FrozenWeights::Load(ModelPath());
  BOOST_REQUIRE(weights.ok());
  Trainer trainer(*weights, {512, 8});
  const Tokenizer tokenizer;
  std::vector<TrainSequence> neutral(kNeutral.size());
  for (size_t i = 0; i < neutral.size(); ++i) {
    neutral[i].tokens = tokenizer.Prompt(kNeutral[i].first);
    neutral[i].completion_begin = neutral[i].tokens.size();
    const auto answer = tokenizer.Answer(kNeutral[i].second);
    neutral[i].tokens.insert(neutral[i].tokens.end(), answer.begin(), answer.end());
  }
  const auto anchors = AnchorPool::Make(std::move(neutral), trainer, ThreadsFor(2));
  BOOST_REQUIRE(anchors.ok());

  const double base = HeldOutNll(trainer, tokenizer, nullptr);
  // `shift` 0: each question with its own correction; else with that of another question.
  const auto after = [&](size_t shift, double& kl) {
    Learner learner(**weights, {});
    for (size_t i = 0; i < 2 * kTaught.size(); ++i) {
      const Fact& fact = kTaught[i % kTaught.size()];
      const Fact& other = kTaught[(i + shift) % kTaught.size()];
      const LearnExample example{
          tokenizer.Prompt(fact.question),
          tokenizer.Answer(std::string("The answer is ") + fact.answer + "."),
          tokenizer.Answer(Styled(other)), -1};
      const auto report = learner.Step(example, trainer, *anchors, ThreadsFor(2));
      BOOST_REQUIRE(report.ok());
      BOOST_TEST(report->accepted);
      kl = report->kl;
    }
    return HeldOutNll(trainer, tokenizer, &learner.weights());
  };
  double kl = 0, shuffled_kl = 0;
  const double taught = after(0, kl);
  const double shuffled = after(5, shuffled_kl);
  BOOST_TEST_MESSAGE("held-out NLL per token: base " << base << ", taught " << taught
                                                     << ", shuffled " << shuffled << "; KL " << kl
                                                     << " and " << shuffled_kl);
  BOOST_TEST(taught < 0.6 * base);
  BOOST_TEST(taught < shuffled - 0.2);
  BOOST_TEST(kl < 1);
}

}  // namespace
}  // namespace nudge
