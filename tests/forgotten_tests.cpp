// labels: unit
// Which records and outcomes a forget concerns, also of records that are no events.
#include <boost/test/unit_test.hpp>

#include <string>

#include "pipeline/serve/forgotten.h"

using namespace nudge;

namespace {

std::string Line(const std::string& id, const std::string& type, const std::string& user,
                 const std::string& data, const std::string& tenant = "acme",
                 const std::string& source = "/a") {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":")" + source +
         R"(","type":"nudge.)" + type + R"(","tenant":")" + tenant + R"(","user":")" + user +
         R"(","data":{)" + data + "}}";
}

constexpr int64_t kForget = 100;

Forgotten Of(const std::string& data, const std::string& source = "/a") {
  Forgotten forgotten{EventLimits{}};
  BOOST_REQUIRE(forgotten.Add(kForget, Line("g", "forget", "ops", data, "acme", source)));
  return forgotten;
}

RecordedOutcome OutcomeOf(const std::string& id, const std::string& type, int64_t offset) {
  RecordedOutcome recorded;
  recorded.outcome = {"acme", "/a", id, type, Applied{}, {}};
  recorded.offset = offset;
  return recorded;
}

}  // namespace

BOOST_AUTO_TEST_CASE(of_a_user_what_they_said_goes_and_what_they_ordered_stays) {
  const Forgotten forgotten = Of(R"("user":"ann")");
  const auto goes = [&](const std::string& line, int64_t offset = 1) {
    return forgotten.Concerns(offset, line);
  };
  const std::string question = Line("q", "query", "ann", R"("text":"what?")");
  BOOST_TEST(goes(question));
  BOOST_TEST(goes(question, kForget - 1));
  BOOST_TEST(!goes(question, kForget));
  BOOST_TEST(!goes(question, kForget + 1));
  BOOST_TEST(!goes(Line("q", "query", "bob", R"("text":"what?")")));
  BOOST_TEST(!goes(Line("q", "query", "ann", R"("text":"what?")", "other")));
  BOOST_TEST(goes(Line("e", "example", "ann", R"("query":"a?","answer":"b")")));
  for (const auto& [type, data] : {std::pair{"document.upsert", R"("document_id":"d","text":"t")"},
                                   {"document.delete", R"("document_id":"d")"},
                                   {"source.sync", R"("document_ids":[])"},
                                   {"prompt.upsert", R"("prompt_id":"p","system":"s")"},
                                   {"prompt.delete", R"("prompt_id":"p")"},
                                   {"adapter", R"("action":"reset")"},
                                   {"forget", R"("user":"ann")"}}) {
    BOOST_TEST(DecodeEvent(Line("x", type, "ann", data)).ok());
    BOOST_TEST(!goes(Line("x", type, "ann", data)), type);
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_event_goes_by_what_can_be_read_of_it) {
  const Forgotten of_ann = Of(R"("user":"ann")");
  const std::string torn = Line("q", "query", "ann", R"("text":"what)").substr(0, 120);
  for (const std::string& line :
       {torn, Line("f", "feedback", "ann", R"("query_id":"q","rating":"loud")"),
        Line("n", "news", "ann", R"("text":"of a type that is not known")")}) {
    BOOST_TEST(!DecodeEvent(line).ok());
    BOOST_TEST(of_ann.Concerns(1, line), line);
  }
  BOOST_TEST(!of_ann.Concerns(1, Line("d", "document.upsert", "ann", R"("document_id":7.5)")));
  BOOST_TEST(!of_ann.Concerns(1, Line("p", "prompt.upsert", "ann", R"("prompt":"s")")));
  BOOST_TEST(!of_ann.Concerns(1, "no JSON of ann's"));
  BOOST_TEST(!of_ann.Concerns(1, ""));
  const Forgotten with_documents = Of(R"("user":"ann","documents":true)");
  BOOST_TEST(with_documents.Concerns(1, Line("d", "document.upsert", "ann", R"("text":7)")));
  BOOST_TEST(Of(R"("event_id":"q")").Concerns(1, torn));
}

BOOST_AUTO_TEST_CASE(feedback_goes_with_the_question_that_it_is_about) {
  Forgotten forgotten = Of(R"("user":"ann")");
  forgotten.See(1, Line("q", "query", "ann", R"("text":"what?")"));
  forgotten.See(kForget + 1, Line("q-late", "query", "ann", R"("text":"what?")"));
  const auto about = [&](const std::string& data, const std::string& source) {
    return forgotten.Concerns(50, Line("f", "feedback", "bob", data, "acme", source));
  };
  BOOST_TEST(about(R"("query_id":"q","rating":"up")", "/a"));
  BOOST_TEST(about(R"("query_id":"q","query_source":"/a","rating":"up")", "/b"));
  BOOST_TEST(!about(R"("query_id":"q","rating":"up")", "/b"));  // another question
  BOOST_TEST(!about(R"("query_id":"q-late","rating":"up")", "/a"));
}

BOOST_AUTO_TEST_CASE(an_event_is_named_by_source_and_id_and_is_no_document) {
  const Forgotten own = Of(R"("event_id":"q")");
  const Forgotten named = Of(R"("event_id":"q","event_source":"/a")", "/b");
  const Forgotten other = Of(R"("event_id":"q")", "/b");
  const std::string question = Line("q", "query", "ann", R"("text":"what?")");
  BOOST_TEST(own.Concerns(1, question));
  BOOST_TEST(named.Concerns(1, question));
  BOOST_TEST(!other.Concerns(1, question));
  BOOST_TEST(own.Concerns(2, Line("f", "feedback", "bob", R"("query_id":"q","rating":"up")")));
  BOOST_TEST(
      !own.Concerns(1, Line("q", "document.upsert", "ann", R"("document_id":"d","text":"t")")));
  // By its outcome alone, too, where retention took the record.
  BOOST_TEST(own.Concerns(OutcomeOf("q", "nudge.query", 1)));
  BOOST_TEST(!own.Concerns(OutcomeOf("q", "nudge.query", kForget + 1)));
  BOOST_TEST(!own.Concerns(OutcomeOf("q", "nudge.document.upsert", 1)));
  BOOST_TEST(!own.Concerns(OutcomeOf("r", "nudge.query", 1)));
}

BOOST_AUTO_TEST_CASE(of_a_conversation_its_questions_go_with_the_feedback_about_them) {
  Forgotten forgotten = Of(R"("conversation_id":"c")");
  const std::string question = Line("q", "query", "ann", R"("text":"what?","conversation_id":"c")");
  const std::string feedback = Line("f", "feedback", "bob", R"("query_id":"q","rating":"up")");
  BOOST_TEST(!forgotten.Concerns(50, feedback));
  forgotten.See(1, question);
  BOOST_TEST(forgotten.Concerns(1, question));
  BOOST_TEST(forgotten.Concerns(50, feedback));
  BOOST_TEST(!forgotten.Concerns(kForget + 1, question));
  BOOST_TEST(!forgotten.Concerns(1, Line("q", "query", "ann", R"("text":"what?")")));
  BOOST_TEST(
      !forgotten.Concerns(1, Line("r", "query", "ann", R"("text":"what?","conversation_id":"d")")));
  BOOST_TEST(!forgotten.Concerns(
      1, Line("q", "query", "ann", R"("text":"what?","conversation_id":"c")", "other")));
}

BOOST_AUTO_TEST_CASE(only_a_forget_is_one) {
  Forgotten forgotten{EventLimits{}};
  BOOST_TEST(!forgotten.Add(1, Line("q", "query", "ann", R"("text":"what?")")));
  BOOST_TEST(!forgotten.Add(1, "nonsense"));
  BOOST_TEST(!forgotten.Concerns(0, Line("q", "query", "ann", R"("text":"what?")")));
}
