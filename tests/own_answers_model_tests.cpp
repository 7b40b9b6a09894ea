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

LocalBackendOptions OptionsFor(const std::string& engine) {
  LocalBackendOptions options;
  options.language_model = ModelPath();
  options.engine = engine;
  options.slots = 1;
  options.window_tokens = 256;
  options.products = "f32";
  return options;
}

std::unique_ptr<Backend> BackendOf(const std::string& engine) {
  return MakeLocalBackend(OptionsFor(engine));
}

Backend& Own() {
  static const std::unique_ptr<Backend> backend = BackendOf("own");
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
                           const AdapterVersion* adapter = nullptr, const Asker& asker = {}) {
  return backend.Generate(0, chat, adapter, decoding, 7, asker);
}

std::string Text(Backend& backend, const Chat& chat, const Decoding& decoding,
                 const AdapterVersion* adapter = nullptr, const TenantId& tenant = {}) {
  Asker asker;
  asker.tenant = tenant;
  const auto completed = Generate(backend, chat, decoding, adapter, asker);
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

BOOST_AUTO_TEST_CASE(an_answer_is_the_same_alone_and_beside_others_whatever_the_batch_and_memory) {
  const std::vector<std::shared_ptr<const AdapterVersion>> versions = {
      nullptr, Taught(Own(), "We open at eight."), Taught(Own(), "Never on Mondays."), nullptr};
  const std::vector<Chat> chats = {Ask("When do you open?"), Ask("When do you open?"), LongAsk(),
                                   LongAsk()};
  std::vector<std::string> alone;
  for (size_t i = 0; i < chats.size(); ++i) {
    alone.push_back(Text(Own(), chats[i], Drawn(), versions[i].get()));
  }
  BOOST_TEST(alone[0] != alone[1]);
  struct Case {
    size_t threads, answers, prompt_tokens;
    uint64_t prefix_bytes;
  };
  for (const Case& at : {Case{1, 16, 64, 1 << 24}, Case{3, 16, 7, 0}, Case{2, 2, 256, 1 << 24}}) {
    LocalBackendOptions options = OptionsFor("own");
    options.slots = at.threads;
    options.answers_together_max = at.answers;
    options.prompt_tokens_together_max = at.prompt_tokens;
    options.keys_bytes_max = 16 << 20;  // for a window and little more
    options.prefix_bytes_max = at.prefix_bytes;
    const auto backend = MakeLocalBackend(options);
    BOOST_TEST(backend->answers_together() == at.answers);
    for (int turn = 0; turn < 2; ++turn) {
      std::vector<std::string> texts(chats.size());
      std::vector<std::thread> threads;
      for (size_t i = 0; i < chats.size(); ++i) {
        threads.emplace_back([&, i] {
          Asker asker;
          asker.tenant = "tenant " + std::to_string(i);
          const auto completed = Generate(*backend, chats[i], Drawn(), versions[i].get(), asker);
          if (completed.ok()) texts[i] = completed->text;
        });
      }
      for (std::thread& thread : threads) thread.join();
      BOOST_TEST(texts == alone, boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(what_a_tenant_has_had_read_is_not_read_again_until_it_is_forgotten) {
  const std::string expected = Text(Own(), LongAsk(), Drawn());
  const auto kept = [](const TenantId& tenant, const std::string& answer) {
    const uint64_t before = Own().read_tokens().kept;
    BOOST_TEST(Text(Own(), LongAsk(), Drawn(), nullptr, tenant) == answer);
    return Own().read_tokens().kept - before;
  };
  BOOST_TEST(kept("ada", expected) == 0U);
  const uint64_t computed = Own().read_tokens().computed;
  const size_t prompt = Own().CountTokens(LongAsk());
  BOOST_TEST(kept("ada", expected) > prompt - 33);
  BOOST_TEST(Own().read_tokens().computed - computed < 33 + Drawn().max_tokens);
  BOOST_TEST(kept("bob", expected) == 0U);
  Own().ForgetTexts("ada");
  BOOST_TEST(kept("ada", expected) == 0U);
  BOOST_TEST(kept("bob", expected) > prompt - 33);
}

BOOST_AUTO_TEST_CASE(a_question_that_is_forgotten_meanwhile_leaves_nothing) {
  for (const bool is_forgotten : {true, false}) {
    Asker asker;
    asker.tenant = "eve";
    asker.forgotten = [&] { return is_forgotten; };
    BOOST_TEST(Generate(Own(), LongAsk(), Greedy(), nullptr, asker).ok());
    const uint64_t before = Own().read_tokens().kept;
    Text(Own(), LongAsk(), Greedy(1), nullptr, "eve");
    BOOST_TEST((Own().read_tokens().kept == before) == is_forgotten);
    Own().ForgetTexts("eve");
  }
}

BOOST_AUTO_TEST_CASE(too_little_memory_for_the_keys_of_a_window_stops_the_start) {
  LocalBackendOptions options = OptionsFor("own");
  options.keys_bytes_max = 2 << 20;
  try {
    (void)MakeLocalBackend(options);
    BOOST_FAIL("a backend that cannot answer was made");
  } catch (const StartError& error) {
    const std::string what = error.what();
    BOOST_TEST(what.find("model.keys_bytes_max: 2097152 is too little") == 0U, what);
  }
}

BOOST_AUTO_TEST_CASE(what_is_told_meanwhile_is_the_answer_and_limits_say_how_it_ended) {
  std::string told;
  Asker asker;
  asker.on_text = [&](std::string_view text) { told += text; };
  const auto completed = Generate(Own(), Ask("Count to five."), Greedy(5), nullptr, asker);
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

BOOST_AUTO_TEST_CASE(a_prompt_without_room_is_refused_in_llamas_words_and_others_are_answered) {
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
    Asker asker;
    asker.cancelled = [&] { return asked++ == after; };
    const auto cancelled = Generate(Own(), LongAsk(), Greedy(), nullptr, asker);
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
