// labels: unit
#include "stages/prepare.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "stages/hash.h"
#include "stages/text.h"

using namespace nudge;

namespace {

template <class Data>
Event With(Data data) {
  Event event;
  event.id = "1";
  event.source = "test";
  event.tenant = "acme";
  event.data = std::move(data);
  return event;
}

Event Upsert(std::string text, std::string title = "") {
  return With(DocumentUpsert{"doc", std::move(text), std::move(title), {}});
}

PrepareOptions Small() {
  PrepareOptions options;
  options.chunk_chars = 100;
  options.dimension = 3;
  return options;
}

std::vector<std::string> ChunksOf(const PrepareOptions& options, std::string text) {
  const auto prepared = Prepare(options).Apply(Upsert(std::move(text)));
  BOOST_REQUIRE(prepared.ok());
  std::vector<std::string> texts;
  for (const Chunk& chunk : prepared->chunks) texts.push_back(chunk.text);
  return texts;
}

Error ErrorOf(const PrepareOptions& options, Event event) {
  const auto prepared = Prepare(options).Apply(std::move(event));
  BOOST_REQUIRE(!prepared.ok());
  return prepared.error();
}

Signal SignalOf(Feedback feedback) {
  feedback.query_id = "q";
  const auto prepared = Prepare(Small()).Apply(With(std::move(feedback)));
  BOOST_REQUIRE(prepared.ok());
  BOOST_REQUIRE(prepared->signal.has_value());
  return *prepared->signal;
}

std::string Repeated(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

std::string WithoutSpace(std::string_view text) {
  std::string rest;
  for (const char c : text) {
    if (c != ' ' && c != '\n') rest += c;
  }
  return rest;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_short_document_is_one_chunk_of_clean_text) {
  const auto prepared =
      Prepare(Small()).Apply(Upsert("  \r\nCaf\u0065\u0301\r\nis  open. ", " A \n title "));
  BOOST_REQUIRE(prepared.ok());
  BOOST_REQUIRE_EQUAL(prepared->chunks.size(), 1U);
  BOOST_TEST(prepared->chunks[0].text == "Caf\u00e9\nis open.");
  const auto& upsert = std::get<DocumentUpsert>(prepared->event.data);
  BOOST_TEST(upsert.title == "A title");
  BOOST_TEST(upsert.text == "Caf\u00e9\nis open.");
}

BOOST_AUTO_TEST_CASE(chunks_end_with_sentences) {
  const auto chunks = ChunksOf(Small(), Repeated("This sentence has forty characters, yes. ", 5));
  BOOST_REQUIRE_EQUAL(chunks.size(), 3U);
  BOOST_TEST(chunks[0] ==
             "This sentence has forty characters, yes. "
             "This sentence has forty characters, yes.");
  BOOST_TEST(chunks[2] == "This sentence has forty characters, yes.");
}

BOOST_AUTO_TEST_CASE(a_paragraph_that_fills_half_a_chunk_closes_it) {
  const std::string first(55, 'a');
  const auto chunks =
      ChunksOf(Small(), first + ".\n\nShort one.\n\nNext one is here.\n\n" + std::string(40, 'b'));
  BOOST_REQUIRE_EQUAL(chunks.size(), 2U);
  BOOST_TEST(chunks[0] == first + ".");
  BOOST_TEST(chunks[1] == "Short one.\n\nNext one is here.\n\n" + std::string(40, 'b'));
}

BOOST_AUTO_TEST_CASE(characters_count_not_bytes) {
  BOOST_TEST(ChunksOf(Small(), Repeated("\u6587", 100)).size() == 1U);
  const auto chunks = ChunksOf(Small(), Repeated("今天的天气很好我们去公园。", 20));
  for (const std::string& chunk : chunks) {
    BOOST_TEST(CountCharacters(chunk) == 91U);
    BOOST_TEST(chunk.ends_with("。"));
    if (&chunk == &chunks[1]) break;
  }
}

BOOST_AUTO_TEST_CASE(a_small_rest_joins_the_chunk_before_or_takes_its_last_sentence) {
  const std::string first = std::string(55, 'a') + ".\n\n";
  const auto joined = ChunksOf(Small(), first + std::string(40, 'b') + ".\n\nBye.");
  BOOST_REQUIRE_EQUAL(joined.size(), 2U);
  BOOST_TEST(joined[1] == std::string(40, 'b') + ".\n\nBye.");
  const auto taken =
      ChunksOf(Small(), std::string(60, 'A') + ". " + std::string(35, 'B') + ". Good bye.");
  BOOST_REQUIRE_EQUAL(taken.size(), 2U);
  BOOST_TEST(taken[0] == std::string(60, 'A') + ".");
  BOOST_TEST(taken[1] == std::string(35, 'B') + ". Good bye.");
}

BOOST_AUTO_TEST_CASE(a_sentence_longer_than_a_chunk_is_cut_between_words) {
  for (const std::string& chunk : ChunksOf(Small(), Repeated("word ", 100))) {
    BOOST_TEST(CountCharacters(chunk) <= 100U);
    BOOST_TEST((chunk.starts_with("word") && chunk.ends_with("word")));
  }
}

BOOST_AUTO_TEST_CASE(a_text_without_any_gap_is_cut_anywhere_but_inside_a_character) {
  const auto chunks = ChunksOf(Small(), Repeated("\u00e9", 330));
  BOOST_REQUIRE_EQUAL(chunks.size(), 4U);
  BOOST_TEST(chunks[0] == Repeated("\u00e9", 100));
  BOOST_TEST(chunks[3] == Repeated("\u00e9", 30));
}

BOOST_AUTO_TEST_CASE(no_chunk_is_too_long_and_nothing_is_lost) {
  static const std::vector<std::string> kPieces = {"word",
                                                   " ",
                                                   " ",
                                                   ". ",
                                                   "\n",
                                                   "\n\n",
                                                   "\u4e2d\u6587",
                                                   "\u3002",
                                                   "longerword",
                                                   "? ",
                                                   std::string(130, 'x')};
  for (uint64_t seed = 0; seed < 400; ++seed) {
    std::string text = "a";
    for (size_t i = 0; i < seed % 300; ++i) {
      const uint64_t choice = RandomAt(seed, i) % (kPieces.size() * 4);
      text += kPieces[choice % (choice < 4 ? kPieces.size() : kPieces.size() - 1)];
    }
    std::string joined;
    for (const std::string& chunk : ChunksOf(Small(), text)) {
      BOOST_REQUIRE(!chunk.empty());
      BOOST_REQUIRE_LE(CountCharacters(chunk), 100U);
      joined += chunk;
    }
    // Indented lines may have what they are nested in once more before them.
    size_t at = 0;
    for (const char c : WithoutSpace(text)) {
      at = joined.find(c, at);
      BOOST_REQUIRE(at++ != std::string::npos);
    }
  }
}

BOOST_AUTO_TEST_CASE(an_overlap_repeats_the_last_sentence) {
  PrepareOptions options = Small();
  options.overlap_sentence = true;
  const auto chunks =
      ChunksOf(options, std::string(70, 'a') + ". Short end. " + std::string(80, 'B') + ".");
  BOOST_REQUIRE_EQUAL(chunks.size(), 2U);
  BOOST_TEST(chunks[0] == std::string(70, 'a') + ". Short end.");
  BOOST_TEST(chunks[1] == "Short end. " + std::string(80, 'B') + ".");
}

BOOST_AUTO_TEST_CASE(a_chunk_is_no_longer_than_an_embedder_reads_behind_its_title) {
  PrepareOptions options;
  options.dimension = 3;
  const std::string chinese = Repeated("\u6587\u5b57", 290) + "\u3002";
  const auto lengths = [&](const std::string& title) {
    const auto prepared = Prepare(options).Apply(Upsert(chinese, title));
    BOOST_REQUIRE(prepared.ok());
    for (const std::string& text : Prepare::TextsToEmbed(*prepared).texts) {
      BOOST_TEST(EstimateTokens(text) <= 500U);
    }
    return prepared->chunks.size();
  };
  BOOST_TEST(lengths("") == 2U);
  BOOST_TEST(lengths(Repeated("\u9898", 500)) == 2U);
  options.dimension = 0;
  BOOST_TEST(ChunksOf(options, chinese).size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_document_over_the_limit_of_chunks_is_refused) {
  PrepareOptions options = Small();
  options.chunks_per_document = 2;
  const std::string sentence = std::string(79, 'a') + ". ";
  BOOST_TEST(ChunksOf(options, sentence + sentence).size() == 2U);
  const Error cut = ErrorOf(options, Upsert(sentence + sentence + sentence));
  BOOST_TEST(Name(cut.code) == Name(Code::kTooLarge));
  BOOST_TEST(cut.message.find("data.text: 3 chunks") == 0U);
  const Error long_before = ErrorOf(options, Upsert(std::string(100000, 'a')));
  BOOST_TEST(Name(long_before.code) == Name(Code::kTooLarge));
}

BOOST_AUTO_TEST_CASE(a_text_that_is_empty_once_cleaned_is_refused_with_its_path) {
  const auto path_of = [](Event event) {
    const Error error = ErrorOf(Small(), std::move(event));
    BOOST_TEST(Name(error.code) == Name(Code::kInvalidEvent));
    BOOST_TEST(!error.remedy.empty());
    return error.message.substr(0, error.message.find(':'));
  };
  BOOST_TEST(path_of(Upsert(" \n\u200b ")) == "data.text");
  BOOST_TEST(path_of(With(Query{"\t", {}})) == "data.text");
  BOOST_TEST(path_of(With(ExampleGiven{"q", " "})) == "data.answer");
  BOOST_TEST(path_of(With(ExampleGiven{"", "a"})) == "data.query");
  BOOST_TEST(path_of(With(PromptUpsert{"p", "\n", {}})) == "data.system");
  Feedback feedback;
  feedback.inline_answer = Feedback::Inline{"q", "\x01"};
  feedback.rating = 1;
  BOOST_TEST(path_of(With(feedback)) == "data.inline.completion");
  feedback.inline_answer = Feedback::Inline{" ", "a"};
  BOOST_TEST(path_of(With(feedback)) == "data.inline.query");
}

BOOST_AUTO_TEST_CASE(earlier_turns_are_cleaned_and_refused_by_their_path) {
  Query query{"why?", {}};
  query.messages = {{"user", " a   b \n"}, {"assistant", "- c\r\n    - d  \n"}};
  const auto prepared = Prepare(Small()).Apply(With(query));
  BOOST_REQUIRE(prepared.ok());
  const auto& cleaned = std::get<Query>(prepared->event.data).messages;
  BOOST_TEST(cleaned[0].text == "a b");
  BOOST_TEST(cleaned[1].text == "- c\n    - d");
  query.messages.push_back({"user", "\u200b"});
  const Error empty = ErrorOf(Small(), With(query));
  BOOST_TEST(empty.message.starts_with("data.messages.2.content: nothing is left"));
  query.messages[2].text = "longer";
  PrepareOptions options = Small();
  options.answer_chars = 5;
  query.messages.erase(query.messages.begin(), query.messages.begin() + 2);
  const Error large = ErrorOf(options, With(query));
  BOOST_TEST(Name(large.code) == Name(Code::kTooLarge));
  BOOST_TEST(large.message.starts_with("data.messages.0.content: 6 characters"), large.message);
  BOOST_TEST(large.remedy.ends_with("prepare.answer_chars"), large.remedy);
}

BOOST_AUTO_TEST_CASE(the_same_text_behind_other_turns_is_another_content) {
  const Prepare prepare(Small());
  Query query{"why?", {}};
  std::set<uint64_t> contents;
  const auto add = [&] { contents.insert(prepare.Apply(With(query))->content); };
  add();
  query.messages = {{"user", "a"}};
  add();
  query.messages = {{"assistant", "a"}};
  add();
  query.messages = {{"user", "a"}, {"assistant", "b"}};
  add();
  query.conversation_id = "c";
  add();
  query.messages.clear();
  add();
  BOOST_TEST(contents.size() == 6U);
}

BOOST_AUTO_TEST_CASE(texts_over_their_limits_are_refused) {
  PrepareOptions options = Small();
  options.query_chars = 5;
  options.title_chars = 5;
  options.answer_chars = 5;
  BOOST_TEST(Prepare(options).Apply(With(Query{Repeated("\u00e9", 5), {}})).ok());
  BOOST_TEST(Name(ErrorOf(options, With(Query{Repeated("\u00e9", 6), {}})).code) ==
             Name(Code::kTooLarge));
  BOOST_TEST(Name(ErrorOf(options, Upsert("text", "a title")).code) == Name(Code::kTooLarge));
  BOOST_TEST(Name(ErrorOf(options, With(ExampleGiven{"q", "answer"})).code) ==
             Name(Code::kTooLarge));
  BOOST_TEST(Name(ErrorOf(options, With(PromptUpsert{"p", "system", {}})).code) ==
             Name(Code::kTooLarge));
  Feedback feedback;
  feedback.query_id = "q";
  feedback.correction = "too long";
  BOOST_TEST(Name(ErrorOf(options, With(feedback)).code) == Name(Code::kTooLarge));
}

BOOST_AUTO_TEST_CASE(a_correction_keeps_its_layout) {
  Feedback feedback;
  feedback.correction = "- a\r\n    - b  \n";
  BOOST_TEST(SignalOf(feedback).correction.value() == "- a\n    - b");
}

BOOST_AUTO_TEST_CASE(a_plain_rating_is_the_reward) {
  for (const double rating : {-1.0, -.5, 0.0, .25, 1.0}) {
    Feedback feedback;
    feedback.rating = rating;
    BOOST_TEST(SignalOf(feedback).reward == rating);
    BOOST_TEST(!SignalOf(feedback).correction.has_value());
  }
}

BOOST_AUTO_TEST_CASE(behaviour_speaks_softly_and_fills_what_a_rating_leaves) {
  const auto tolerance = boost::test_tools::tolerance(1e-12);
  Feedback clicked;
  clicked.behaviour.clicked = true;
  BOOST_TEST(SignalOf(clicked).reward == .2, tolerance);
  Feedback all;
  all.behaviour = {true, true, false, 60000};
  BOOST_TEST(SignalOf(all).reward == .5, tolerance);
  Feedback again;
  again.behaviour.regenerated = true;
  again.behaviour.dwell_ms = 0;
  BOOST_TEST(SignalOf(again).reward == -.5, tolerance);
  again.rating = 1;
  BOOST_TEST(SignalOf(again).reward == 1, tolerance);
  again.rating = .5;
  BOOST_TEST(SignalOf(again).reward == .25, tolerance);
  Feedback dwelt;
  for (const auto& [dwell_ms, reward] : std::vector<std::pair<uint32_t, double>>{{0, -.1},
                                                                                 {1000, -.1},
                                                                                 {3000, -.05},
                                                                                 {5000, 0},
                                                                                 {17500, .05},
                                                                                 {30000, .1},
                                                                                 {9999999, .1}}) {
    dwelt.behaviour.dwell_ms = dwell_ms;
    BOOST_TEST(SignalOf(dwelt).reward == reward, tolerance);
  }
}

BOOST_AUTO_TEST_CASE(a_correction_alone_is_a_mild_no_and_a_blank_one_is_none) {
  Feedback feedback;
  feedback.correction = "Paris.";
  BOOST_TEST(SignalOf(feedback).reward == -.5);
  feedback.rating = -1;
  BOOST_TEST(SignalOf(feedback).reward == -1);
  feedback.rating.reset();
  feedback.correction = " \n";
  BOOST_TEST(SignalOf(feedback).reward == 0);
  BOOST_TEST(!SignalOf(feedback).correction.has_value());
  feedback.inline_answer = Feedback::Inline{"Capital of France?", "Paris."};
  feedback.correction = "Paris. ";
  BOOST_TEST(!SignalOf(feedback).correction.has_value());
  BOOST_TEST(SignalOf(feedback).reward == 0);
}

BOOST_AUTO_TEST_CASE(a_rating_that_is_no_rating_is_refused) {
  for (const double rating : {1.01, -2.0, std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity()}) {
    Feedback feedback;
    feedback.query_id = "q";
    feedback.rating = rating;
    const Error error = ErrorOf(Small(), With(feedback));
    BOOST_TEST(Name(error.code) == Name(Code::kInvalidEvent));
    BOOST_TEST(error.message.starts_with("data.rating"));
  }
}

BOOST_AUTO_TEST_CASE(what_is_embedded_has_the_title_in_front) {
  const Prepare prepare(Small());
  const auto upsert =
      prepare.Apply(Upsert(Repeated("This sentence has forty characters, yes. ", 4), "Title"));
  const EmbeddingInput passages = Prepare::TextsToEmbed(*upsert);
  BOOST_TEST(!passages.as_query);
  BOOST_REQUIRE_EQUAL(passages.texts.size(), 2U);
  BOOST_TEST(passages.texts[1] == "Title\n" + upsert->chunks[1].text);
  BOOST_TEST(Prepare::TextsToEmbed(*prepare.Apply(Upsert("text"))).texts.at(0) == "text");
  const EmbeddingInput query = Prepare::TextsToEmbed(*prepare.Apply(With(Query{" why? ", {}})));
  BOOST_TEST(query.as_query);
  BOOST_TEST(query.texts.at(0) == "why?");
  const EmbeddingInput example =
      Prepare::TextsToEmbed(*prepare.Apply(With(ExampleGiven{"why?", "because"})));
  BOOST_TEST(example.as_query);
  BOOST_TEST(example.texts.at(0) == "why?");
  Query follow_up{"and it?", {}};
  follow_up.messages = {{"user", "Where is the pier?"}, {"assistant", "There."}};
  BOOST_TEST(Prepare::TextsToEmbed(*prepare.Apply(With(follow_up))).texts.at(0) == "pier: and it?");
  Feedback feedback;
  feedback.query_id = "q";
  BOOST_TEST(Prepare::TextsToEmbed(*prepare.Apply(With(feedback))).texts.empty());
}

BOOST_AUTO_TEST_CASE(vectors_are_attached_with_length_one) {
  const Prepare prepare(Small());
  auto upsert = prepare.Apply(Upsert("text"));
  BOOST_REQUIRE(prepare.Attach(*upsert, {{3, 0, 4}}).ok());
  BOOST_TEST(upsert->chunks[0].vector == (Vector{.6F, 0, .8F}), boost::test_tools::per_element());
  auto query = prepare.Apply(With(Query{"why?", {}}));
  BOOST_REQUIRE(prepare.Attach(*query, {{0, -2, 0}}).ok());
  BOOST_TEST(query->query_vector == (Vector{0, -1, 0}), boost::test_tools::per_element());
  Feedback feedback;
  feedback.query_id = "q";
  auto nothing = prepare.Apply(With(feedback));
  BOOST_TEST(prepare.Attach(*nothing, {}).ok());
}

BOOST_AUTO_TEST_CASE(wrong_vectors_are_refused_and_change_nothing) {
  const Prepare prepare(Small());
  auto upsert = prepare.Apply(Upsert(Repeated("This sentence has forty characters, yes. ", 4)));
  BOOST_REQUIRE_EQUAL(upsert->chunks.size(), 2U);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<Vector>> wrong = {{},
                                                  {{1, 0, 0}},
                                                  {{1, 0, 0}, {1, 0, 0}, {1, 0, 0}},
                                                  {{1, 0, 0}, {1, 0}},
                                                  {{1, 0, 0}, {nan, 0, 0}},
                                                  {{1, 0, 0}, {infinity, 0, 0}},
                                                  {{1, 0, 0}, {0, 0, 0}}};
  for (const auto& vectors : wrong) {
    const auto attached = prepare.Attach(*upsert, vectors);
    BOOST_REQUIRE(!attached.ok());
    BOOST_TEST(Name(attached.error().code) == Name(Code::kModelFailed));
    for (const Chunk& chunk : upsert->chunks) BOOST_TEST(chunk.vector.empty());
  }
}

BOOST_AUTO_TEST_CASE(options_out_of_range_stop_the_start) {
  PrepareOptions options;
  options.chunk_chars = 10;
  BOOST_CHECK_THROW(Prepare{options}, StartError);
  options = {};
  options.chunks_per_document = 0;
  BOOST_CHECK_THROW(Prepare{options}, StartError);
}
