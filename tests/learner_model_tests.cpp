// labels: model
#include <llama.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <numeric>

#include "stages/model/learn/learner.h"
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

// A trainer with weights of one form, and what it takes to learn the house style with it.
class School {
 public:
  explicit School(BaseForm form)
      : weights_(*FrozenWeights::Load(ModelPath(), form)),
        trainer_(weights_, {512, 8}),
        anchors_(*AnchorPool::Make(Neutral(), trainer_, ThreadsFor(2))) {}

  double Base() { return HeldOutNll(trainer_, tokenizer_, nullptr); }

  struct Taught {
    double held_out_nll = 0;
    double kl = 0;
    size_t accepted = 0;
  };
  // `shift` 0: each question with its own correction; else with that of another question.
  Taught Teach(size_t shift, LearnerOptions options = {}) {
    Learner learner(*weights_, options);
    Taught taught;
    for (size_t i = 0; i < 2 * kTaught.size(); ++i) {
      const Fact& fact = kTaught[i % kTaught.size()];
      const Fact& other = kTaught[(i + shift) % kTaught.size()];
      const TokenExample example{
          tokenizer_.Prompt(fact.question),
          tokenizer_.Answer(std::string("The answer is ") + fact.answer + "."),
          tokenizer_.Answer(Styled(other)), -1};
      const auto report = learner.Step(example, trainer_, anchors_, ThreadsFor(2));
      BOOST_REQUIRE(report.ok());
      taught.accepted += report->accepted ? 1 : 0;
      if (report->accepted) taught.kl = report->kl;
    }
    taught.held_out_nll = HeldOutNll(trainer_, tokenizer_, &learner.weights());
    return taught;
  }

 private:
  std::vector<TrainSequence> Neutral() const {
    std::vector<TrainSequence> neutral(kNeutral.size());
    for (size_t i = 0; i < neutral.size(); ++i) {
      neutral[i].tokens = tokenizer_.Prompt(kNeutral[i].first);
      neutral[i].completion_begin = neutral[i].tokens.size();
      const auto answer = tokenizer_.Answer(kNeutral[i].second);
      neutral[i].tokens.insert(neutral[i].tokens.end(), answer.begin(), answer.end());
    }
    return neutral;
  }

  std::shared_ptr<const FrozenWeights> weights_;
  Trainer trainer_;
  Tokenizer tokenizer_;
  AnchorPool anchors_;
};

BOOST_AUTO_TEST_CASE(corrections_to_a_house_style_carry_over_to_questions_never_seen) {
  School school({});
  const double base = school.Base();
  const School::Taught taught = school.Teach(0);
  const School::Taught shuffled = school.Teach(5, {.evidence_nats = 0});
  BOOST_TEST_MESSAGE("held-out NLL per token: base "
                     << base << ", taught " << taught.held_out_nll << ", shuffled "
                     << shuffled.held_out_nll << "; KL " << taught.kl << " and " << shuffled.kl);
  BOOST_TEST(taught.held_out_nll < 0.6 * base);
  BOOST_TEST(taught.held_out_nll < shuffled.held_out_nll - 0.2);
  BOOST_TEST(taught.kl < 1);
  BOOST_TEST(taught.accepted == 2 * kTaught.size());
  BOOST_TEST(shuffled.accepted == 2 * kTaught.size());
  // Corrections that belong to other questions follow from nothing.
  const School::Taught found_out = school.Teach(5);
  BOOST_TEST_MESSAGE("of the shuffled ones " << found_out.accepted << " were learnt: NLL "
                                             << found_out.held_out_nll);
  BOOST_TEST(found_out.accepted <= 4U);
}

BOOST_AUTO_TEST_CASE(lessons_with_bf16_products_teach_as_much_as_those_with_f32_ones) {
  if (!HasBf16Products()) {
    BOOST_TEST_MESSAGE("this processor has no bf16 products: nothing to test here");
    return;
  }
  School f32({}), bf16({.products = BaseProducts::kBf16});
  const double base = bf16.Base();
  const School::Taught taught = bf16.Teach(0);
  const School::Taught expected = f32.Teach(0);
  BOOST_TEST_MESSAGE("held-out NLL per token: base "
                     << base << " (f32: " << f32.Base() << "), taught " << taught.held_out_nll
                     << " (f32: " << expected.held_out_nll << "); KL " << taught.kl
                     << " (f32: " << expected.kl << ")");
  BOOST_TEST(taught.held_out_nll < 0.6 * base);
  BOOST_TEST(std::abs(taught.held_out_nll - expected.held_out_nll) < 0.1 * expected.held_out_nll);
  BOOST_TEST(taught.kl < 1);
}

}  // namespace
}  // namespace nudge
