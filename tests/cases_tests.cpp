// labels: unit
// Events as other systems write them, from the bytes of a file to the outcomes of a whole run on
// the template backend: what is certain is taken, all else is refused with its cause and a remedy.
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "connectors/codec.h"
#include "connectors/file_source.h"
#include "connectors/memory.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/processor.h"
#include "tests/temp_folder.h"

using namespace nudge;

namespace {

using Json = nlohmann::json;

constexpr char kConfig[] =
    R"({"input":{"path":"events.jsonl"},"output":{"folder":"out"},)"
    R"("model":{"backend":"template","template_dimension":64},"checkpoint":{"enabled":false}})";

// As Kafka gives records, each with the tenant as its key.
class KeyedSource final : public Source {
 public:
  KeyedSource(std::string key, std::vector<std::string> records)
      : key_(std::move(key)), records_(std::move(records)) {}

  void Listen(PartitionListener& listener) override { records_.Listen(listener); }
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override {
    Result<Pull> pull = records_.Next(record, timeout);
    record.key = key_;
    return pull;
  }
  Result<Nothing> Seek(int32_t partition, int64_t offset) override {
    return records_.Seek(partition, offset);
  }
  void Pause(int32_t partition) override { records_.Pause(partition); }
  void Resume(int32_t partition) override { records_.Resume(partition); }

 private:
  const std::string key_;
  MemorySource records_;
};

// The outcomes of events, by their subject or else their number.
class Run {
 public:
  // The bytes of a file.
  explicit Run(const std::string& bytes, std::string config = kConfig)
      : config_(std::move(config)) {
    const testing::TempFolder folder;
    const std::string path = folder.path() + "/events.jsonl";
    std::ofstream(path, std::ios::binary) << bytes;
    FileSource source({.path = path});
    Take(source);
  }
  explicit Run(KeyedSource source) { Take(source); }

  void Take(Source& source) {
    Config config = ParseConfig(config_, "");
    const std::unique_ptr<Backend> backend = MakeBackend(config);
    MemorySink sink;
    Processor processor(ToProcessorOptions(config), {}, *backend, source, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
    for (const OutcomeLine& line : sink.lines()) {
      lines.push_back(line.bytes);
      const Json outcome = Json::parse(line.bytes);
      const Result<RecordedOutcome> recorded = DecodeOutcome(line.bytes);
      BOOST_TEST(recorded.ok());
      if (IsLetter(outcome)) BOOST_TEST(outcome["data"]["remedy"] != "", line.bytes);
      all.push_back(outcome);
      by_subject[outcome.value("subject", "line " + std::to_string(line.offset))] = outcome;
    }
  }

  static bool IsLetter(const Json& outcome) { return outcome["type"] == "nudge.dead_letter"; }
  const Json& At(const std::string& subject) const {
    BOOST_REQUIRE_MESSAGE(by_subject.contains(subject), subject);
    return by_subject.at(subject);
  }
  void Answers(const std::string& subject) const {
    BOOST_TEST(At(subject)["type"] == "nudge.response", At(subject).dump());
  }
  std::string Receipt(const std::string& subject) const {
    BOOST_TEST(At(subject)["type"] == "nudge.applied", At(subject).dump());
    return At(subject)["data"].value("summary", "");
  }
  // Refused, with whose it is.
  void Refuses(const std::string& subject, const std::string& code, const std::string& message,
               const std::string& in_remedy = "") const {
    const Json& outcome = At(subject);
    BOOST_REQUIRE_MESSAGE(IsLetter(outcome), outcome.dump());
    BOOST_TEST(outcome.value("tenant", "") == "acme", outcome.dump());
    const Json& data = outcome["data"];
    BOOST_TEST(data["code"] == code, outcome.dump());
    BOOST_TEST(data["message"].get<std::string>().find(message) != std::string::npos,
               data["message"].dump());
    BOOST_TEST(data["remedy"].get<std::string>().find(in_remedy) != std::string::npos,
               data["remedy"].dump());
  }

  std::vector<std::string> lines;
  std::vector<Json> all;
  std::map<std::string, Json> by_subject;

 private:
  const std::string config_ = kConfig;
};

// An event of source /s and tenant acme, its attributes in this order or sorted by their names.
std::string Line(const std::string& id, const std::string& type, const std::string& data,
                 const std::string& more = "") {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/s","type":"nudge.)" + type +
         R"(","tenant":"acme",)" + more + R"("data":)" + data + "}\n";
}
std::string Sorted(const std::string& id, const std::string& type, const std::string& data) {
  return R"({"data":)" + data + R"(,"id":")" + id +
         R"(","source":"/s","specversion":"1.0","tenant":"acme","type":"nudge.)" + type + "\"}\n";
}
std::string Asked(const std::string& id, const std::string& more = "") {
  return Line(id, "query", R"({"text":"When is the report due?","options":{"temperature":0}})",
              more);
}
std::string Rated(const std::string& id, const std::string& fields, const std::string& more = "") {
  return Line(id, "feedback", R"({"query_id":"q",)" + fields + "}", more);
}
std::string Page(const std::string& id, const std::string& metadata) {
  return Line(id, "document.upsert",
              R"({"document_id":")" + id + R"(","text":"a page","metadata":)" + metadata + "}");
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_has_no_meaning_in_a_text_is_named_and_the_sender_known_in_any_order) {
  const std::map<std::string, std::string> faults = {
      {R"(\ud83d)", R"(a lone surrogate \ud83d, half of a character, at byte)"},
      {R"(\ude00\ud83d)", R"(a lone surrogate \ude00)"},
      {R"(\ud83dx\ude00)", R"(a lone surrogate \ud83d)"},
      {R"(\x41)", "an escape that it does not have"},
      {R"(\u12zz)", R"(\u without four hex digits)"},
      {"\t", "a raw control character (0x09)"},
      {std::string(1, '\0'), "a raw control character (0x00)"}};
  for (const auto& [bytes, message] : faults) {
    const std::string data = R"({"text":"nice )" + bytes + "\"}";
    const Run run(Line("first", "query", data) + Sorted("last", "query", data));
    for (const char* const subject : {"/s/first", "/s/last"}) {
      run.Refuses(subject, "invalid_json", message);
    }
  }
  const Run whole(Sorted("q", "query", R"({"text":"nice \ud83d\ude00 \\ud83d"})"));
  whole.Answers("/s/q");
  const Run bytes(Sorted("q", "query", "{\"text\":\"\xed\xa0\xbd \xe9\"}"));
  bytes.Refuses("/s/q", "invalid_utf8", "not UTF-8 at byte");
}

BOOST_AUTO_TEST_CASE(python_s_nan_is_named_wherever_it_stands) {
  const Run run(Sorted("f", "feedback", R"({"query_id":"q","rating":NaN})") +
                Sorted("i", "feedback", R"({"query_id":"q","rating":-Infinity})") +
                Line("q", "query", R"({"text":"a"})", R"("score":Infinity,)"));
  run.Refuses("/s/f", "invalid_json", "NaN at byte", "finite");
  run.Refuses("/s/i", "invalid_json", "-Infinity at byte");
  run.Refuses("/s/q", "invalid_json", "Infinity at byte");
}

BOOST_AUTO_TEST_CASE(a_number_of_any_size_in_an_ignored_attribute_is_ignored) {
  const std::string digits(400, '7');
  const Run run(Asked("a", R"("traceid":340282366920938463463374607431768211455,)") +
                Asked("b", R"("amount":1e400,"wei":[-1e999,{"x":-99999999999999999999}],)") +
                Asked("c", "\"digits\":" + digits + ",\"minus\":-" + digits + ",") +
                Line("d", "query", R"({"text":"a","options":{"seed":18446744073709551615}})"));
  for (const char* const subject : {"/s/a", "/s/b", "/s/c", "/s/d"}) run.Answers(subject);
}

BOOST_AUTO_TEST_CASE(a_number_of_any_size_where_it_is_read_is_refused_by_its_path_and_range) {
  const auto option = [](const std::string& id, const std::string& field) {
    return Sorted(id, "query", R"({"text":"a","options":{)" + field + "}}");
  };
  const Run run(
      option("s", R"("seed":18446744073709551616)") + option("m", R"("max_tokens":1e30)") +
      option("n", R"("seed":-99999999999999999999)") + option("t", R"("temperature":1e400)") +
      Sorted("r", "feedback", R"({"query_id":"q","rating":99999999999999999999})"));
  run.Refuses("/s/s", "invalid_event",
              "data.options.seed: 18446744073709551616 is outside 0..18446744073709551615");
  run.Refuses("/s/m", "invalid_event", "data.options.max_tokens: 1e+30 is outside 1..4096");
  run.Refuses("/s/n", "invalid_event", "data.options.seed: -100000000000000000000 is outside");
  run.Refuses("/s/t", "invalid_event", "data.options.temperature: a number over 1.79e308 is");
  run.Refuses("/s/r", "invalid_event", "data.rating: 100000000000000000000 is outside -1..1");
}

BOOST_AUTO_TEST_CASE(every_media_type_of_json_is_taken_and_no_other) {
  std::string lines;
  const std::vector<std::string> taken = {"application/vnd.acme.chat+json",    "text/json",
                                          "application/json; charset=utf-8",   "APPLICATION/JSON",
                                          "application/cloudevents+json ;a=b", "x/Y+JSON"};
  const std::vector<std::string> refused = {
      "application/xml",   "application/jsonl",    "json", "/json",
      "application/+json", "application/json+xml", ""};
  const auto add = [&](const std::string& id, const std::string& type) {
    lines += Asked(id, R"("datacontenttype":")" + type + "\",");
  };
  for (size_t i = 0; i < taken.size(); ++i) add("t" + std::to_string(i), taken[i]);
  for (size_t i = 0; i < refused.size(); ++i) add("r" + std::to_string(i), refused[i]);
  const Run run(lines);
  for (size_t i = 0; i < taken.size(); ++i) run.Answers("/s/t" + std::to_string(i));
  for (size_t i = 0; i < refused.size(); ++i) {
    run.Refuses("/s/r" + std::to_string(i), "invalid_event", "datacontenttype: ", "JSON object");
  }
}

BOOST_AUTO_TEST_CASE(json_inside_of_a_text_is_named) {
  const std::string whole = Line("w", "query", R"({"text":"a"})");
  const Run run(Line("d", "query", R"("{\"text\": \"hello\"}")") +
                Line("o", "query", R"({"text":"a","options":"{\"seed\":1}"})") +
                Json(whole.substr(0, whole.size() - 1)).dump() + "\n" +
                Line("t", "query", R"("hello")"));
  const std::string remedy = "send the object itself";
  run.Refuses("/s/d", "invalid_event", "data: a text that holds JSON", remedy);
  run.Refuses("/s/o", "invalid_event", "data.options: expected an object, found a string", remedy);
  run.Refuses("/s/w", "invalid_event", "event: a text that holds JSON", remedy);
  run.Refuses("/s/t", "invalid_event", "data: expected an object, found a string");
}

BOOST_AUTO_TEST_CASE(an_integer_is_a_name_too_and_the_same_one_as_its_text) {
  const auto query = [](const std::string& id, const std::string& tenant, const std::string& text) {
    return R"({"specversion":"1.0","id":)" + id + R"(,"source":7,"type":"nudge.query","tenant":)" +
           tenant + R"(,"user":1001,"time":1769860800000,"data":{"text":")" + text + "\"}}\n";
  };
  const Run run(query("1", "42", "a") + query("\"1\"", "\"42\"", "a") + query("2", "42", "a") +
                query("3", "-5", "a") +
                R"({"specversion":"1.0","id":9,"source":7,"type":"nudge.feedback","tenant":42,)"
                R"("data":{"query_id":2,"rating":1}})"
                "\n" +
                query("4", "42", ""));
  BOOST_TEST(run.all[0]["tenant"] == "42");
  BOOST_TEST(run.all[0]["subject"] == "7/1");
  BOOST_TEST(run.all[1]["data"]["summary"] == "duplicate of event 0");
  BOOST_TEST(run.all[2]["type"] == "nudge.response");
  BOOST_TEST(run.all[3]["tenant"] == "-5");
  BOOST_TEST(run.all[4]["type"] == "nudge.applied");
  BOOST_TEST(run.all[5]["type"] == "nudge.dead_letter");
  BOOST_TEST(run.all[5]["tenant"] == "42");
  BOOST_TEST(run.all[5]["subject"] == "7/4");
}

BOOST_AUTO_TEST_CASE(a_name_that_is_no_text_for_certain_is_refused_and_the_text_shown) {
  const auto refusal = [](const std::string& tenant) {
    const Result<Event> event = DecodeEvent(
        R"({"specversion":"1.0","id":"q","source":"/s","type":"nudge.query","tenant":)" + tenant +
        R"(,"data":{"text":"a"}})");
    BOOST_REQUIRE(!event.ok());
    BOOST_TEST(event.error().message.starts_with("tenant: "), event.error().message);
    return event.error().remedy;
  };
  BOOST_TEST(refusal("42.0") == R"(write it as a text: "42.0")");
  BOOST_TEST(refusal("true") == R"(write it as a text: "true")");
  BOOST_TEST(refusal("1e3") == R"(write it as a text: "1000.0")");
  BOOST_TEST(refusal("[42]") == "write one text");
  BOOST_TEST(refusal("99999999999999999999").starts_with("write it as a text"));
}

BOOST_AUTO_TEST_CASE(metadata_keeps_its_types_and_leaves_null_out) {
  const Result<Event> event = DecodeEvent(
      Page("d", R"({"page":3,"draft":false,"score":0.5,"whole":4.0,"author":null,"name":"x",)"
                R"("tags":["b","a"]})"));
  BOOST_REQUIRE(event.ok());
  const Metadata expected = {{"page", 3.0},  {"draft", false},
                             {"score", 0.5}, {"whole", 4.0},
                             {"name", "x"},  {"tags", std::vector<std::string>{"b", "a"}}};
  BOOST_TEST((std::get<DocumentUpsert>(event->data).metadata == expected));
  const Run run(Page("a", R"({"page":3})") + Page("l", R"({"tags":["a",1]})") +
                Page("o", R"({"inner":{"a":"b"}})") + Page("b", R"({"id":1e30})") +
                Page("i", R"({"id":9007199254740993})"));
  run.Receipt("/s/a");
  run.Refuses("/s/l", "invalid_event", "data.metadata.tags.1: ", "as a text");
  run.Refuses("/s/o", "invalid_event", "data.metadata.inner: ", "write one text");
  run.Refuses("/s/b", "invalid_event", "data.metadata.id: ", "digit by digit");
  run.Refuses("/s/i", "invalid_event", "data.metadata.id: ", "digit by digit");
}

BOOST_AUTO_TEST_CASE(null_says_that_an_optional_field_is_left_out) {
  const Run run(Line("q", "query", R"({"text":"a","options":{"seed":null,"max_tokens":null}})") +
                Line("o", "query", R"({"text":"a","options":null})") +
                Rated("f", R"("rating":"up","correction":null,"signals":null)") +
                Line("d", "document.upsert",
                     R"({"document_id":"d","text":"a","title":null,"metadata":null})") +
                Rated("n", R"("correction":null)") + Line("t", "query", R"({"text":null})"));
  run.Answers("/s/q");
  run.Answers("/s/o");
  run.Receipt("/s/f");
  run.Receipt("/s/d");
  run.Refuses("/s/n", "invalid_event", "data: none of rating, correction and signals is given");
  run.Refuses("/s/t", "invalid_event", "data.text: expected a string, found null");
}

BOOST_AUTO_TEST_CASE(a_browsers_times_are_taken_as_whole_milliseconds) {
  const auto dwell = [](const std::string& number) {
    const Result<Event> event = DecodeEvent(Rated("f", R"("signals":{"dwell_ms":)" + number + "}"));
    BOOST_REQUIRE_MESSAGE(event.ok(), number);
    return *std::get<Feedback>(event->data).behaviour.dwell_ms;
  };
  BOOST_TEST(dwell("1532.4000000059605") == 1532u);
  BOOST_TEST(dwell("2000.0") == 2000u);
  BOOST_TEST(dwell("-0.1") == 0u);
  BOOST_TEST(dwell("1.5e3") == 1500u);
  BOOST_TEST(dwell("4294967295.9") == 4294967295u);
  const auto signal = [](const std::string& id, const std::string& number) {
    return Rated(id, R"("rating":"up","signals":{"dwell_ms":)" + number + "}");
  };
  const Run run(Asked("q") + signal("a", "1532.4000000059605") + signal("b", "259200000") +
                signal("c", "-3") + signal("d", "4294967296") + signal("e", "1e300") +
                Line("m", "query", R"({"text":"a","options":{"max_tokens":64.0,"seed":7e0}})") +
                Line("n", "query", R"({"text":"a","options":{"max_tokens":64.5}})"));
  run.Receipt("/s/a");
  run.Receipt("/s/b");
  run.Refuses("/s/c", "invalid_event", "data.signals.dwell_ms: -3 is outside 0..4294967295");
  run.Refuses("/s/d", "invalid_event", "data.signals.dwell_ms: 4294967296 is outside");
  run.Refuses("/s/e", "invalid_event", "data.signals.dwell_ms: 1e+300 is outside");
  run.Answers("/s/m");
  run.Refuses("/s/n", "invalid_event", "data.options.max_tokens: expected an integer", "round");
}

BOOST_AUTO_TEST_CASE(the_same_id_with_other_content_is_refused_and_with_the_same_a_duplicate) {
  const Run run(Asked("q") + Rated("f", R"("rating":"up")") +
                Rated("f", R"("rating":"down","correction":"On the fifth working day.")") +
                Line("f", "feedback", R"({ "rating": 1.0, "query_id": "q" })", R"("time":"now",)") +
                Asked("q") + Line("q", "query", R"({"text":"Another question?"})") +
                Rated("f2", R"("rating":"down")"));
  BOOST_REQUIRE(run.all.size() == 7u);
  BOOST_TEST(Run::IsLetter(run.all[2]));
  BOOST_TEST(run.all[2]["data"]["code"] == "changed_event");
  BOOST_TEST(run.all[2]["data"]["stage"] == "recall");
  BOOST_TEST(
      run.all[2]["data"]["message"] ==
      "id: 'f' of source '/s' is event 1, which had other content; this one changes nothing");
  BOOST_TEST(run.all[2]["subject"] == "/s/f");
  BOOST_TEST(run.all[3]["data"]["summary"] == "duplicate of event 1");
  BOOST_TEST(run.all[4]["data"]["summary"] == "duplicate of event 0");
  BOOST_TEST(run.all[5]["data"]["code"] == "changed_event");
  BOOST_TEST(run.Receipt("/s/f2").find("duplicate") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(ratings_of_other_conventions_are_refused_with_how_to_map_them) {
  std::string lines = Asked("q");
  const std::vector<std::string> refused = {"true", "false",     R"("thumbs_up")", "5",
                                            "-2",   R"("null")", R"("Up")",        R"("1")",
                                            "[1]",  R"({"v":1})"};
  for (size_t i = 0; i < refused.size(); ++i) {
    lines += Rated("r" + std::to_string(i), "\"rating\":" + refused[i]);
  }
  const Run run(lines + Rated("zero", R"("rating":0)") + Rated("down", R"("rating":-1.0)") +
                Rated("seen", R"("rating":0,"signals":{"copied":true})"));
  for (size_t i = 0; i < refused.size(); ++i) {
    run.Refuses("/s/r" + std::to_string(i), "invalid_event", "data.rating: ");
    const std::string remedy = run.At("/s/r" + std::to_string(i))["data"]["remedy"];
    BOOST_TEST(remedy.find("-1 for a dislike") != remedy.npos);
  }
  BOOST_TEST(run.Receipt("/s/zero") ==
             "nothing to learn: rating 0 is neutral, a dislike is -1 or \"down\"");
  BOOST_TEST(run.Receipt("/s/down").starts_with("training step 1"));
  BOOST_TEST(run.Receipt("/s/seen").starts_with("training step 2"));
}

BOOST_AUTO_TEST_CASE(the_last_word_of_a_user_on_an_answer_counts) {
  const std::string ann = R"("user":"ann",)";
  const Run run(Line("q", "query", R"({"text":"When is the report due?"})") +
                Rated("none", R"("rating":null)", ann) + Rated("f1", R"("rating":"up")", ann) +
                Rated("f2", R"("rating":"down","correction":"On the fifth day.")", ann) +
                Rated("x", R"("rating":null)") + Asked("q2", R"("user":"eve",)") +
                Rated("f3", R"("rating":0)", ann) + Rated("f4", R"("rating":"up")", ann) +
                Rated("f5", R"("rating":null)", ann) + Rated("f6", R"("rating":null)", ann) +
                Rated("bad", R"("rating":null,"correction":"a")", ann) + Asked("q3"));
  const auto starts = [&](const std::string& id, const std::string& text) {
    BOOST_TEST(run.Receipt("/s/" + id).starts_with(text), run.Receipt("/s/" + id));
  };
  starts("none",
         "nothing to take back: user ann has said nothing of this answer that is on record");
  starts("x", "nothing to take back: feedback without a user stands for itself");
  starts("f1", "training step 1, makes version 1 if it passes the gates;");
  starts("f2",
         "training step 2, makes version 2 if it passes the gates; replaces f1's lesson: unlearnt "
         "at once; "
         "no longer kept: 1; credited in place of the earlier word to default/");
  starts("f3",
         "nothing to learn: rating 0 is neutral, a dislike is -1 or \"down\"; "
         "replaces f2's lesson: unlearnt at once; training step 3: the base model serves; "
         "no longer kept: 2; no longer credited to ");
  starts("f4", "training step 4, makes version 3 if it passes the gates; credited to ");
  starts("f5",
         "takes back f4's lesson: unlearnt at once; training step 5: the base model serves; "
         "no longer kept: 3");
  starts("f6", "nothing to take back: nothing is learnt of what user ann said of this answer");
  run.Refuses("/s/bad", "invalid_event", "data.rating: null takes back all",
              "send rating null alone");
  BOOST_TEST(run.At("/s/q2")["data"]["adapter"]["version"] == 2);
  BOOST_TEST(run.At("/s/q3")["data"]["adapter"]["version"] == 0);
}

BOOST_AUTO_TEST_CASE(who_changes_their_mind_too_often_is_told_that_nothing_is_learnt) {
  std::string lines = Asked("q");
  for (int i = 0; i < 12; ++i) {
    lines += Rated("f" + std::to_string(i), i % 2 == 0 ? R"("rating":"up")" : R"("rating":"down")",
                   R"("user":"ann",)");
  }
  const Run run(lines);
  BOOST_TEST(
      run.Receipt("/s/f8").starts_with("training step 9, makes version 9 if it passes the gates"));
  for (const std::string id : {"/s/f9", "/s/f10", "/s/f11"}) {
    BOOST_TEST(run.Receipt(id).starts_with("nothing done: user ann has replaced what they said of"),
               run.Receipt(id));
    BOOST_TEST(!run.At(id)["data"].contains("step"));
  }
}

BOOST_AUTO_TEST_CASE(feedback_before_its_question_is_told_to_come_again_and_then_taken) {
  const Run run(Rated("f", R"("rating":"up")") + Asked("q") + Rated("f", R"("rating":"up")") +
                Rated("g", R"("query_source":"/mobile","rating":"up")") +
                Line("e", "query", R"({"text":""})") +
                Line("h", "feedback", R"({"query_id":"e","rating":"down"})"));
  BOOST_TEST(run.all[0]["data"]["code"] == "unknown_query");
  const std::string remedy = run.all[0]["data"]["remedy"];
  BOOST_TEST(remedy.find("send it again once the question is answered") != remedy.npos);
  BOOST_TEST(remedy.find("query_source") != remedy.npos);
  BOOST_TEST(run.all[2]["data"]["summary"].get<std::string>().starts_with("training step 1"));
  run.Refuses("/s/g", "unknown_query", "data.query_id: ", "query_source");
  run.Refuses("/s/h", "unknown_query", "data.query_id: ");
}

BOOST_AUTO_TEST_CASE(a_user_is_forgotten_in_every_place_that_their_words_reached) {
  const testing::TempFolder folder;
  const auto asked = [](const std::string& id) {
    return Line(id, "query",
                R"({"text":"Which code opens the gate?","options":{"temperature":0}})");
  };
  const std::string ann = R"("user":"ann",)";
  const Run run(
      asked("q1") +
          Line("f1", "feedback",
               R"({"query_id":"q1","rating":"down","correction":"It is 4711-ZEBRA."})", ann) +
          asked("q2") + asked("again") +
          Line("bad", "feedback", R"({"query_id":"q1","correction":"ZEBRA","oops":1})", ann) +
          Line("g", "forget", R"({"user":"ann"})") + asked("q3") +
          Line("f2", "feedback", R"({"query_id":"q2","rating":"up"})", ann),
      R"({"input":{"path":"-"},"output":{"folder":"unused"},)"
      R"("model":{"backend":"template","template_dimension":64},)"
      R"("prompt":{"corrections_as_examples":true,"few_shots":2},)"
      R"("checkpoint":{"every_events":1,"folder":")" +
          folder.path() + "\"}}");
  const auto data = [&](const std::string& id) { return run.At("/s/" + id)["data"]; };
  BOOST_TEST(data("q1")["text"] != data("q2")["text"]);
  BOOST_TEST(data("again")["cache"]["hit"] == true);
  BOOST_TEST(data("q3")["text"] == data("q1")["text"]);
  BOOST_TEST(data("q3")["adapter"]["digest"] == data("q1")["adapter"]["digest"]);
  BOOST_TEST(data("q3")["cache"]["hit"] == false);
  BOOST_TEST(run.Receipt("/s/g").starts_with("forgot user ann: 1 example, "), run.Receipt("/s/g"));
  BOOST_TEST(run.Receipt("/s/f2").starts_with("nothing to learn: the answer is not on record"),
             run.Receipt("/s/f2"));
  size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    const std::string bytes = testing::FileBytes(file.path());
    BOOST_TEST(bytes.find("ZEBRA") == std::string::npos, file.path().filename());
    ++files;
  }
  BOOST_TEST(files > 0U);
}

BOOST_AUTO_TEST_CASE(no_character_in_an_outcome_ends_a_line_for_any_reader) {
  const std::string separators = "x\xe2\x80\xa8y\xe2\x80\xa9z\xc2\x85w\x7f";
  const Run run(Line("q", "query", R"({"text":")" + separators + "\"}") +
                Line("a\xe2\x80\xa8"
                     "b",
                     "query", R"({"text":"a"})") +
                Line("bad", "query", R"({")" + separators + "\":1}") +
                Page("d\xe2\x80\xa9", R"({"k":")" + separators + "\"}"));
  BOOST_TEST(run.lines.size() == 4u);
  for (const std::string& line : run.lines) {
    for (const char* const separator : {"\xe2\x80\xa8", "\xe2\x80\xa9", "\xc2\x85", "\x7f", "\n"}) {
      BOOST_TEST(line.find(separator) == line.npos, line);
    }
  }
  run.Answers(
      "/s/a\xe2\x80\xa8"
      "b");
  BOOST_TEST(run.At("/s/bad")["data"]["bytes"].get<std::string>().find(separators) !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_byte_order_mark_before_any_event_is_skipped_and_inside_a_text_kept) {
  const std::string mark = "\xef\xbb\xbf";
  const Run run(mark + Asked("a") + Asked("b") + mark + mark + Asked("c") + mark + "\n" +
                Line("d", "query", "{\"text\":\"hel" + mark + "lo\"}"));
  BOOST_TEST(run.all.size() == 4u);
  for (const char* const subject : {"/s/a", "/s/b", "/s/c", "/s/d"}) run.Answers(subject);
  const std::string record = mark + Asked("k");  // as a Kafka record has it
  BOOST_TEST(DecodeEvent(record.substr(0, record.size() - 1)).ok());
  BOOST_TEST(PeekHead(record).id == "k");
}

BOOST_AUTO_TEST_CASE(what_is_no_utf8_is_named) {
  const auto wide = [](const std::string& ascii, const std::string& before,
                       const std::string& after) {
    std::string bytes;
    for (const char c : ascii) bytes += before + c + after;
    return bytes;
  };
  const std::string zero(1, '\0');
  const std::string text = R"({"specversion":"1.0"})";
  const auto refusal = [](const std::string& bytes) {
    const Result<Event> event = DecodeEvent(bytes);
    BOOST_REQUIRE(!event.ok());
    BOOST_TEST(!event.error().remedy.empty());
    return event.error().message;
  };
  BOOST_TEST(refusal("\xff\xfe" + wide(text, "", zero)).starts_with("not UTF-8 but UTF-16"));
  BOOST_TEST(refusal("\xfe\xff" + wide(text, zero, "")).starts_with("not UTF-8 but UTF-16"));
  BOOST_TEST(refusal(wide(text, "", zero)).starts_with("not UTF-8 but UTF-16"));
  BOOST_TEST(refusal(wide(text, zero, "")).starts_with("not UTF-8 but UTF-16"));
  BOOST_TEST(refusal(zero).starts_with("not UTF-8 but UTF-16"));
  BOOST_TEST(refusal(wide(text, "", zero + zero + zero)) == "not UTF-8 but UTF-32");
  BOOST_TEST(refusal(wide(text, zero + zero + zero, "")) == "not UTF-8 but UTF-32");
  BOOST_TEST(refusal("\x1f\x8b\x08") == "not UTF-8 but gzip data");
}

BOOST_AUTO_TEST_CASE(values_that_are_sent_in_place_of_an_event_are_named) {
  const auto one_line = [](std::string event) {
    event.pop_back();
    return event;
  };
  const std::string event = one_line(Asked("one"));
  const std::string zero(1, '\0');
  const Run run(zero + zero + zero + zero + "\x07" + one_line(Asked("framed")) + "\n" +  //
                R"({"text":"hello"})" + "\n" +                                           //
                "[" + one_line(Asked("x")) + "," + one_line(Asked("y")) + "]\n" +        //
                "[" + one_line(Asked("z")) + "]\n" +                                     //
                R"({"schema":{"type":"struct"},"payload":)" + one_line(Asked("wrapped")) + "}\n" +
                Line("data", "query", R"({"schema":null,"payload":{"text":"a"}})") + event + "\n");
  BOOST_REQUIRE(run.all.size() == 7u);
  run.Refuses("/s/framed", "invalid_json", "a schema registry's framing", "plain JSON serializer");
  BOOST_TEST(run.all[1]["data"]["message"] == "specversion: missing");
  BOOST_TEST(run.all[1]["data"]["remedy"].get<std::string>().find("structured mode") !=
             std::string::npos);
  BOOST_TEST(run.all[2]["tenant"] == "acme");
  BOOST_TEST(run.all[2]["data"]["message"] == "event: a batch of 2 events");
  run.Refuses("/s/z", "invalid_event", "event: a batch of 1 events", "one a record or line");
  run.Refuses("/s/wrapped", "invalid_event", "wrapped in schema and payload",
              "schemas.enable=false");
  run.Refuses("/s/data", "invalid_event", "data: it is wrapped", "schemas.enable=false");
  run.Answers("/s/one");
}

BOOST_AUTO_TEST_CASE(a_records_key_is_the_tenant_of_what_does_not_say_its_own) {
  const std::vector<std::string> records = {R"({"text":"hello"})", "\x01\x02", "null", ""};
  const Run run(KeyedSource("acme", records));
  BOOST_REQUIRE(run.all.size() == records.size());
  for (const Json& outcome : run.all) {
    BOOST_TEST(Run::IsLetter(outcome));
    BOOST_TEST(outcome.value("tenant", "") == "acme", outcome.dump());
  }
  for (const std::string& key : {std::string("a\nb"), std::string("\xff"), std::string(129, 'x')}) {
    const Run nobody(KeyedSource(key, records));
    for (const Json& outcome : nobody.all) BOOST_TEST(!outcome.contains("tenant"));
  }
  const Run integer(KeyedSource(
      "42", {R"({"specversion":"1.0","id":1,"source":"/s","type":"nudge.query","tenant":42,)"
             R"("data":{"text":"a"}})"}));
  integer.Answers("/s/1");
}

BOOST_AUTO_TEST_CASE(a_time_is_carried_whatever_its_form) {
  for (const char* const time :
       {R"("2026-01-31T12:00:00+0000")", "1769860800000", R"("2026-13-99T99:99:99Z")",
        R"("2026-06-30t23:59:60z")", R"("2026-01-31T12:00:00.123456789+05:45")",
        R"("2026-01-31T12:00:00")", R"("2026-01-31T12:00:00+01:00[Europe/Berlin]")", "null"}) {
    const Result<Event> event = DecodeEvent(Asked("q", std::string(R"("time":)") + time + ","));
    BOOST_TEST(event.ok(), time);
  }
  const Run run(Asked("q", R"("time":{"seconds":1},)") + Asked("r", R"("time":1.5,)"));
  run.Refuses("/s/q", "invalid_event", "time: ");
  run.Refuses("/s/r", "invalid_event", "time: ", R"("1.5")");
}

BOOST_AUTO_TEST_CASE(an_answer_says_why_it_ends_also_where_it_is_given_again) {
  const Run run(Asked("first") + Asked("again"));
  BOOST_TEST(run.At("/s/again")["data"]["cache"]["hit"] == true);
  for (const char* const subject : {"/s/first", "/s/again"}) {
    BOOST_TEST(run.At(subject)["data"]["finish_reason"] == "stop");
  }
}

BOOST_AUTO_TEST_CASE(control_characters_go_from_texts_and_are_refused_in_names) {
  const Run run(
      Line("d", "document.upsert",
           R"({"document_id":"d","text":"Page\u0000 one\f \u001b[31mred","title":"T\u0000x"})") +
      Line("q", "query", R"({"text":"What is on page\u0000 one?"})") +
      Line("e", "query", R"({"text":"\u0000\u0000"})") +
      Line("n\\u0000", "query", R"({"text":"a"})"));
  run.Receipt("/s/d");
  run.Answers("/s/q");
  run.Refuses("/s/e", "invalid_event", "data.text: ");
  BOOST_TEST(run.all[3]["data"]["message"] == "id: has a control character");
  for (size_t i = 0; i < 2; ++i) BOOST_TEST(run.lines[i].find("u0000") == std::string::npos);
}
