// labels: model
// Answers of the local backend by nudge's own engine, beside llama.cpp's.
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "stages/model/local_backend.h"
#include "tests/models.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Chat = std::vector<ChatMessage>;

std::unique_ptr<Backend> BackendOf(const std::string& engine, size_t slots = 1) {
  LocalBackendOptions options;
  options.language_model = ModelPath();
  options.engine = engine;
  options.slots = slots;
  options.window_tokens = 256;
  options.products = "f32";
  return MakeLocalBackend(options);
}

Backend& Own() {
  static const std::unique_ptr<Backend> backend = BackendOf("own", 4);
  return *backend;
}

Chat Ask(const std::string& question) {
  return {{"system", "You answer briefly."}, {"user", question}};
}

// Longer than one pass of a prompt.
Chat LongAsk() {
  std::string text = "Which of these is a fruit:";
  for (int i = 0; i < 40; ++i) text += " stone, river,";
  return Ask(text + " apple?");
}

Result<Completed> Generate(Backend& backend, const Chat& chat, const Decoding& decoding,
                           const AdapterVersion* adapter = nullptr, size_t slot = 0) {
  return backend.Generate(slot, chat, adapter, decoding, 7, {}, {});
}

std::string Text(Backend& backend, const Chat& chat, const Decoding& decoding,
                 const AdapterVersion* adapter = nullptr, size_t slot = 0) {
  const auto completed = Generate(backend, chat, decoding, adapter, slot);
  BOOST_REQUIRE_MESSAGE(completed.ok(), (completed.ok() ? "" : completed.error().message));
  return completed->text;
}

Decoding Greedy(uint32_t max_tokens = 16) {
  Decoding decoding;
  decoding.temperature = 0;
  decoding.max_tokens = max_tokens;
  return decoding;
}

Decoding Drawn() {
  Decoding decoding = Greedy(24);
  decoding.temperature = 1;
  return decoding;
}

// What a tenant has after a few lessons that say so.
std::shared_ptr<const AdapterVersion> Taught(Backend& backend, const std::string& correction) {
  const auto learner = backend.NewLearner("tenant");
  for (int i = 0; i < 3; ++i) {
    const auto learnt =
        learner->Step({Ask("When do you open?"), "At nine.", correction, 0}, SerialFor());
    BOOST_REQUIRE(learnt.ok());
  }
  const auto version = learner->Publish("base", SerialFor());
  BOOST_REQUIRE(version.ok());
  return *version;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_probabilities_of_an_answer_are_near_llamas_with_and_without_an_adapter) {
  const auto llama = BackendOf("llama");
  const auto taught = Taught(Own(), "We open at eight.");
  const auto loaded =
      llama->LoadVersion(taught->weights, taught->digest, taught->parent_digest, taught->counts);
  BOOST_REQUIRE(loaded.ok());
  for (const Chat& chat : {Ask("When do you open?"), LongAsk()}) {
    const std::string answer = "We open at eight, and close at nine in the evening, every day.";
    const auto base = Own().NegativeLogLikelihood(chat, answer, nullptr);
    const auto with = Own().NegativeLogLikelihood(chat, answer, taught.get());
    const auto llama_base = llama->NegativeLogLikelihood(chat, answer, nullptr);
    const auto llama_with = llama->NegativeLogLikelihood(chat, answer, loaded->get());
    BOOST_REQUIRE((base.ok() && with.ok() && llama_base.ok() && llama_with.ok()));
    BOOST_TEST_MESSAGE("nats a token, own and llama: " << *base << " " << *llama_base
                                                       << ", with an adapter: " << *with << " "
                                                       << *llama_with);
    BOOST_TEST(std::abs(*base - *llama_base) < 0.1);  // 8-bit activations
    BOOST_TEST(std::abs(*with - *llama_with) < 0.1);
    BOOST_TEST(std::abs(*with - *base) > 0.01);
  }
}

BOOST_AUTO_TEST_CASE(an_answer_is_the_same_on_every_slot_alone_and_beside_others_of_other_tenants) {
  const std::vector<std::shared_ptr<const AdapterVersion>> versions = {
      nullptr, Taught(Own(), "We open at eight."), Taught(Own(), "Never on Mondays."), nullptr};
  const std::vector<Chat> chats = {Ask("When do you open?"), Ask("When do you open?"), LongAsk(),
                                   LongAsk()};
  std::vector<std::string> alone;
  for (size_t i = 0; i < chats.size(); ++i) {
    alone.push_back(Text(Own(), chats[i], Drawn(), versions[i].get()));
  }
  BOOST_TEST(alone[0] != alone[1]);
  for (size_t turn = 0; turn < chats.size(); ++turn) {
    std::vector<std::string> texts(chats.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < chats.size(); ++i) {
      threads.emplace_back([&, i] {
        const auto completed =
            Generate(Own(), chats[i], Drawn(), versions[i].get(), (i + turn) % chats.size());
        if (completed.ok()) texts[i] = completed->text;
      });
    }
    for (std::thread& thread : threads) thread.join();
    BOOST_TEST(texts == alone, boost::test_tools::per_element());
  }
  BOOST_TEST(Text(*BackendOf("own"), chats[3], Drawn()) == alone[3]);
}

BOOST_AUTO_TEST_CASE(what_is_told_meanwhile_is_the_answer_and_limits_say_how_it_ended) {
  std::string told;
  const auto completed = Own().Generate(0, Ask("Count to five."), nullptr, Greedy(5), 7, {},
                                        [&](std::string_view text) { told += text; });
  BOOST_REQUIRE(completed.ok());
  BOOST_TEST(told == completed->text);
  BOOST_TEST(completed->completion_tokens == 5U);
  BOOST_TEST((completed->finish_reason == FinishReason::kLength));
  const auto whole = Generate(Own(), Ask("What is 2 + 2?"), Greedy(200));
  BOOST_REQUIRE(whole.ok());
  BOOST_TEST((whole->finish_reason == FinishReason::kStop));
  const auto window = Generate(Own(), Ask("What is the capital of France?"), Greedy(500));
  BOOST_REQUIRE(window.ok());
  BOOST_TEST((window->finish_reason == FinishReason::kWindow));
  BOOST_TEST(window->prompt_tokens + window->completion_tokens == Own().window_tokens());
}

BOOST_AUTO_TEST_CASE(a_prompt_without_room_is_refused_in_llamas_words_and_the_slot_stays_usable) {
  const std::string expected = Text(Own(), Ask("When?"), Greedy());
  std::string text = "When?";
  for (int i = 0; i < 300; ++i) text += " And where?";
  const Chat chat = Ask(text);
  const auto llama = Generate(*BackendOf("llama"), chat, Greedy());
  const auto own = Generate(Own(), chat, Greedy());
  BOOST_REQUIRE((!llama.ok() && !own.ok()));
  BOOST_TEST(own.error().message == llama.error().message);
  BOOST_TEST(own.error().remedy == llama.error().remedy);
  BOOST_TEST((own.error().code == llama.error().code));
  BOOST_TEST(Text(Own(), Ask("When?"), Greedy()) == expected);
}

BOOST_AUTO_TEST_CASE(a_cancelled_answer_ends_in_the_prompt_or_between_tokens_and_leaves_nothing) {
  const std::string expected = Text(Own(), LongAsk(), Greedy());
  for (const int after : {0, 1, 3, 6}) {
    int asked = 0;
    const auto cancelled =
        Own().Generate(0, LongAsk(), nullptr, Greedy(), 7, [&] { return asked++ == after; }, {});
    BOOST_REQUIRE(!cancelled.ok());
    BOOST_TEST(cancelled.error().message == "cancelled");
    BOOST_TEST(asked == after + 1);
    BOOST_TEST(Text(Own(), LongAsk(), Greedy()) == expected);
  }
}

BOOST_AUTO_TEST_CASE(fingerprint_and_description_name_the_engine_and_llamas_do_not) {
  const auto llama = BackendOf("llama");
  const std::string engine = "nudge's engine";
  BOOST_TEST(Own().Fingerprint().find(engine) != std::string::npos);
  BOOST_TEST(Own().description().find(engine) != std::string::npos);
  BOOST_TEST(llama->Fingerprint().find(engine) == std::string::npos);
  BOOST_TEST(llama->description().find(engine) == std::string::npos);
  BOOST_TEST(Own().window_tokens() == llama->window_tokens());
  BOOST_TEST(Own().CountTokens(LongAsk()) == llama->CountTokens(LongAsk()));
}

BOOST_AUTO_TEST_CASE(a_model_that_does_not_train_stops_the_start_with_what_would_work) {
  LocalBackendOptions options;
  options.language_model = ModelFolder() + kE5Name;
  options.engine = "own";
  try {
    (void)MakeLocalBackend(options);
    BOOST_FAIL("a backend that cannot answer was made");
  } catch (const StartError& error) {
    const std::string what = error.what();
    BOOST_TEST_MESSAGE(what);
    BOOST_TEST(what.find("model.engine: own cannot answer") != std::string::npos);
    BOOST_TEST(what.find("set it to llama") != std::string::npos);
  }
}
