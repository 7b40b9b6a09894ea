// labels: unit
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "connectors/codec.h"
#include "connectors/json_writer.h"
#include "stages/content.h"
#include "tests/fuzz/codec_fuzz.cpp"

using namespace nudge;

namespace {

using Json = nlohmann::json;

std::string EventLine(const std::string& type, const std::string& data) {
  return R"({"specversion":"1.0","id":"e-1","source":"/app","type":")" + type +
         R"(","tenant":"acme","data":)" + data + "}";
}

Event Decoded(const std::string& line) {
  Result<Event> event = DecodeEvent(line);
  BOOST_TEST_REQUIRE(event.ok(), line << ": " << (event.ok() ? "" : event.error().message));
  return *std::move(event);
}

template <class Data>
Data DecodedData(const std::string& type, const std::string& data) {
  const Event event = Decoded(EventLine(type, data));
  BOOST_TEST_REQUIRE(std::holds_alternative<Data>(event.data));
  return std::get<Data>(event.data);
}

void CheckRefused(const std::string& line, Code code, const std::string& message,
                  const EventLimits& limits = {}) {
  const Result<Event> event = DecodeEvent(line, limits);
  BOOST_TEST_REQUIRE(!event.ok(), "accepted: " << line);
  BOOST_TEST(Name(event.error().code) == Name(code), line << ": " << event.error().message);
  BOOST_TEST(event.error().message == message, line << ": " << event.error().message);
  BOOST_TEST(!event.error().remedy.empty(), event.error().message);
}

void CheckDataRefused(const std::string& type, const std::string& data, const std::string& message,
                      Code code = Code::kInvalidEvent) {
  CheckRefused(EventLine(type, data), code, message);
}

// Every field that can be set is set, to a value that needs care.
std::vector<Event> AllKindsOfEvents() {
  Event base;
  base.id = "id \"quoted\" \xc3\xa9";
  base.source = "https://example.com/a?b=c";
  base.time = "2026-01-31T12:00:00.123+01:00";
  base.tenant = "acme";
  base.user = "u\\1";
  std::vector<Event> events;
  const auto add = [&](auto data) {
    events.push_back(base);
    events.back().data = std::move(data);
  };
  add(DocumentUpsert{
      "d/1", "line\nbreak\t\x01 \xf0\x9f\x98\x80", "ti\"tle", {{"a", ""}, {"b", "x"}}});
  add(DocumentUpsert{"d/2", "x", "", {}});
  add(DocumentDelete{"d/1"});
  add(Query{"what?", {}});
  add(Query{"what?", {1, 0.1, std::numeric_limits<uint64_t>::max(), "p"}});
  Query follow_up{"and then?", {}};
  follow_up.messages = {{"user", "what \"now\"?"}, {"assistant", "wait\n"}, {"user", "?"}};
  add(follow_up);
  follow_up.options.seed = 1;
  follow_up.conversation_id = "c/1";
  add(follow_up);
  follow_up.messages.clear();
  add(follow_up);
  Feedback by_id;
  by_id.query_id = "q-1";
  by_id.query_source = "/other";
  by_id.rating = -0.25;
  by_id.correction = "better";
  by_id.behaviour = {true, true, true, 4294967295};
  by_id.comment = "why \"so\"?\nSee page 3.";
  add(by_id);
  Feedback only_shown;
  only_shown.query_id = "q-1";
  add(only_shown);
  Feedback inline_one;
  inline_one.inline_answer = Feedback::Inline{"q", "a"};
  inline_one.rating = 1;
  add(inline_one);
  Feedback back;
  back.query_id = "q";
  back.takes_back = true;
  add(back);
  add(ExampleGiven{"q", "a"});
  add(PromptUpsert{"p", "", Decoding{0.7, 0.9, 40, 4096}});
  add(PromptUpsert{"p", "be brief", std::nullopt});
  add(PromptDelete{"p"});
  using Action = AdapterCommand::Action;
  add(AdapterCommand{Action::kRollback, 0, "", ""});
  add(AdapterCommand{Action::kRollback, std::nullopt, "", ""});
  add(AdapterCommand{Action::kReset, std::nullopt, "", ""});
  add(AdapterCommand{Action::kReset, std::nullopt, "", "", "u\\1"});
  add(AdapterCommand{Action::kFreeze, std::nullopt, "", ""});
  add(AdapterCommand{Action::kUnfreeze, std::nullopt, "", ""});
  add(AdapterCommand{Action::kImport, std::nullopt, "a/b.gguf", std::string(64, 'f')});
  add(Forget{"u\\1", ""});
  add(Forget{"", "d/1"});
  add(Forget{"", "", false, "f-18", ""});
  add(Forget{"", "", false, "f-18", "/other"});
  return events;
}

struct SameData {
  const Event& other;

  template <class Data>
  const Data& Other() const {
    return std::get<Data>(other.data);
  }
  bool operator()(const DocumentUpsert& a) const {
    const auto& b = Other<DocumentUpsert>();
    return a.document_id == b.document_id && a.text == b.text && a.title == b.title &&
           a.metadata == b.metadata && a.access == b.access;
  }
  bool operator()(const DocumentDelete& a) const {
    return a.document_id == Other<DocumentDelete>().document_id;
  }
  bool operator()(const Query& a) const {
    const auto& b = Other<Query>();
    return a.text == b.text && a.options.max_tokens == b.options.max_tokens &&
           a.options.temperature == b.options.temperature && a.options.seed == b.options.seed &&
           a.options.prompt_id == b.options.prompt_id && a.messages == b.messages &&
           a.conversation_id == b.conversation_id && a.groups == b.groups && a.filter == b.filter;
  }
  bool operator()(const Feedback& a) const {
    const auto& b = Other<Feedback>();
    const bool same_inline =
        a.inline_answer.has_value() == b.inline_answer.has_value() &&
        (!a.inline_answer || (a.inline_answer->query == b.inline_answer->query &&
                              a.inline_answer->completion == b.inline_answer->completion));
    return same_inline && a.query_id == b.query_id && a.query_source == b.query_source &&
           a.rating == b.rating && a.correction == b.correction &&
           a.behaviour.clicked == b.behaviour.clicked && a.behaviour.copied == b.behaviour.copied &&
           a.behaviour.regenerated == b.behaviour.regenerated &&
           a.behaviour.dwell_ms == b.behaviour.dwell_ms && a.comment == b.comment;
  }
  bool operator()(const ExampleGiven& a) const {
    const auto& b = Other<ExampleGiven>();
    return a.query == b.query && a.answer == b.answer;
  }
  bool operator()(const PromptUpsert& a) const {
    const auto& b = Other<PromptUpsert>();
    return a.prompt_id == b.prompt_id && a.system == b.system && a.decoding == b.decoding;
  }
  bool operator()(const PromptDelete& a) const {
    return a.prompt_id == Other<PromptDelete>().prompt_id;
  }
  bool operator()(const AdapterCommand& a) const {
    const auto& b = Other<AdapterCommand>();
    return a.action == b.action && a.version == b.version && a.uri == b.uri &&
           a.sha256 == b.sha256 && a.user == b.user;
  }
  bool operator()(const Forget& a) const {
    const auto& b = Other<Forget>();
    return a.user == b.user && a.document_id == b.document_id && a.documents == b.documents &&
           a.event_id == b.event_id && a.event_source == b.event_source &&
           a.conversation_id == b.conversation_id;
  }
  bool operator()(const SourceSync& a) const {
    const auto& b = Other<SourceSync>();
    return a.source == b.source && a.document_ids == b.document_ids;
  }
};

bool Same(const Event& a, const Event& b) {
  return a.id == b.id && a.source == b.source && a.time == b.time && a.tenant == b.tenant &&
         a.user == b.user && a.data.index() == b.data.index() && std::visit(SameData{b}, a.data);
}

Outcome OutcomeWith(decltype(Outcome::what) what) {
  Outcome outcome;
  outcome.tenant = "acme";
  outcome.source = "/app";
  outcome.id = "e \"1\"";
  outcome.type = "nudge.query";
  outcome.what = std::move(what);
  return outcome;
}

Response FullResponse() {
  Response response;
  response.text = "two\nlines, \"quotes\", \\, \x01 and \xf0\x9f\x98\x80";
  response.citations = {{"d/1", 3, 0.1}, {"d/2", 1, 1.0 / 3}, {"d/3", 1, -1e-300}};
  response.prompt_id = "default";
  response.prompt_version = 4294967295;
  response.decoding_name = "plain";
  response.decoding = {0.7, 0.95, 40, 256};
  response.propensity = 0.30000000000000004;
  response.adapter_version = 7;
  response.adapter_digest = std::string(64, 'a');
  response.cache_hit = true;
  response.cache_why = "exact text, same passages, prompt and adapter";
  response.prompt_tokens = 12;
  response.completion_tokens = 34;
  response.finish_reason = FinishReason::kLength;
  return response;
}

DeadLetter FullDeadLetter(std::string bytes) {
  return MakeDeadLetter("decode", {Code::kInvalidEvent, "data.rating: 7 is outside -1..1", "x"},
                        bytes, 1000);
}

Origin OriginAt(int32_t partition, int64_t offset) {
  Origin origin;
  origin.sequence = Sequence::Of(partition, 5);
  origin.offset = offset;
  return origin;
}

std::string Encoded(const Outcome& outcome, const Origin& origin) {
  std::string line;
  EncodeOutcome(outcome, origin, line);
  return line;
}

// Encodes, decodes and encodes again; gives the decoded outcome.
RecordedOutcome RoundTrip(const Outcome& outcome, const Origin& origin) {
  std::string line = Encoded(outcome, origin);
  AppendChain(Sha256("chain"), line);
  const Result<RecordedOutcome> recorded = DecodeOutcome(line);
  BOOST_TEST_REQUIRE(recorded.ok(), (recorded.ok() ? line : recorded.error().message));
  BOOST_TEST(recorded->partition == origin.sequence.partition());
  BOOST_TEST(recorded->offset == origin.offset);
  BOOST_TEST(recorded->chain == Hex(Sha256("chain")));
  BOOST_TEST(recorded->outcome.tenant == outcome.tenant);
  BOOST_TEST(recorded->outcome.source == outcome.source);
  BOOST_TEST(recorded->outcome.id == outcome.id);
  BOOST_TEST(recorded->outcome.type == outcome.type);
  BOOST_TEST((recorded->outcome.snapshots == outcome.snapshots));
  BOOST_TEST((recorded->outcome.lesson_ends == outcome.lesson_ends));
  std::string again = Encoded(recorded->outcome, OriginAt(recorded->partition, recorded->offset));
  AppendChain(Sha256("chain"), again);
  BOOST_TEST(again == line);
  return *recorded;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(events)

BOOST_AUTO_TEST_CASE(a_query_is_read_with_all_of_its_options) {
  const Event event = Decoded(
      R"({"specversion":"1.0","id":"q-1","source":"/web","type":"nudge.query",)"
      R"("time":"2026-01-31T12:00:00Z","tenant":"acme","user":"ann","subject":"s",)"
      R"("dataschema":"http://x","datacontenttype":"application/json","traceparent":"00-1",)"
      R"("data":{"text":"when?","options":{"max_tokens":64,"temperature":0.5,"seed":42,)"
      R"("prompt_id":"brief"}}})");
  BOOST_TEST(event.id == "q-1");
  BOOST_TEST(event.source == "/web");
  BOOST_TEST(event.time == "2026-01-31T12:00:00Z");
  BOOST_TEST(event.tenant == "acme");
  BOOST_TEST(event.user == "ann");
  BOOST_TEST(TypeName(event) == "nudge.query");
  const Query& query = std::get<Query>(event.data);
  BOOST_TEST(query.text == "when?");
  BOOST_TEST(*query.options.max_tokens == 64u);
  BOOST_TEST(*query.options.temperature == 0.5);
  BOOST_TEST(*query.options.seed == 42u);
  BOOST_TEST(*query.options.prompt_id == "brief");
}

BOOST_AUTO_TEST_CASE(data_may_come_before_the_type_that_explains_it) {
  const Event event =
      Decoded(R"({"data":{"text":"when?"},"type":"nudge.query","tenant":"t","source":"s","id":"i",)"
              R"("specversion":"1.0"})");
  BOOST_TEST(std::get<Query>(event.data).text == "when?");
}

BOOST_AUTO_TEST_CASE(documents_are_read) {
  const auto document = DecodedData<DocumentUpsert>(
      "nudge.document.upsert",
      R"({"document_id":"d","text":"t\u00e9","title":"T","metadata":{"k":"v","a":""}})");
  BOOST_TEST(document.document_id == "d");
  BOOST_TEST(document.text == "t\xc3\xa9");
  BOOST_TEST(document.title == "T");
  BOOST_TEST((document.metadata == Metadata{{"a", ""}, {"k", "v"}}));
  BOOST_TEST(
      DecodedData<DocumentDelete>("nudge.document.delete", R"({"document_id":"d"})").document_id ==
      "d");
}

BOOST_AUTO_TEST_CASE(feedback_is_read_in_both_forms) {
  const auto by_id = DecodedData<Feedback>(
      "nudge.feedback",
      R"({"query_id":"q","query_source":"/w","rating":"down","correction":"c",)"
      R"("signals":{"clicked":true,"copied":false,"regenerated":true,"dwell_ms":7}})");
  BOOST_TEST(by_id.query_id == "q");
  BOOST_TEST(by_id.query_source == "/w");
  BOOST_TEST(!by_id.inline_answer.has_value());
  BOOST_TEST(*by_id.rating == -1);
  BOOST_TEST(*by_id.correction == "c");
  BOOST_TEST(by_id.behaviour.clicked);
  BOOST_TEST(!by_id.behaviour.copied);
  BOOST_TEST(by_id.behaviour.regenerated);
  BOOST_TEST(*by_id.behaviour.dwell_ms == 7u);
  const auto inline_one = DecodedData<Feedback>(
      "nudge.feedback", R"({"inline":{"query":"q","completion":"a"},"rating":"up"})");
  BOOST_TEST(inline_one.inline_answer->query == "q");
  BOOST_TEST(inline_one.inline_answer->completion == "a");
  BOOST_TEST(*inline_one.rating == 1);
}

BOOST_AUTO_TEST_CASE(a_rating_may_be_a_number_with_or_without_a_fraction) {
  const auto rating = [](const std::string& json) {
    return *DecodedData<Feedback>("nudge.feedback", R"({"query_id":"q","rating":)" + json + "}")
                .rating;
  };
  BOOST_TEST(rating("1") == 1);
  BOOST_TEST(rating("-1") == -1);
  BOOST_TEST(rating("0") == 0);
  BOOST_TEST(rating("-1.0") == -1);
  BOOST_TEST(rating("2.5e-1") == 0.25);
}

BOOST_AUTO_TEST_CASE(examples_prompts_adapter_commands_and_forget_are_read) {
  const auto example = DecodedData<ExampleGiven>("nudge.example", R"({"query":"q","answer":"a"})");
  BOOST_TEST(example.query == "q");
  BOOST_TEST(example.answer == "a");
  const auto prompt = DecodedData<PromptUpsert>(
      "nudge.prompt.upsert", R"({"prompt_id":"p","system":"s","decoding":{"top_p":0.5}})");
  BOOST_TEST(prompt.prompt_id == "p");
  BOOST_TEST(prompt.system == "s");
  BOOST_TEST(prompt.decoding->top_p == 0.5);
  BOOST_TEST(prompt.decoding->max_tokens == Decoding{}.max_tokens);
  BOOST_TEST(DecodedData<PromptDelete>("nudge.prompt.delete", R"({"prompt_id":"p"})").prompt_id ==
             "p");
  const auto command = [](const std::string& data) {
    return DecodedData<AdapterCommand>("nudge.adapter", data);
  };
  using Action = AdapterCommand::Action;
  BOOST_TEST((command(R"({"action":"rollback"})").action == Action::kRollback));
  BOOST_TEST(!command(R"({"action":"rollback"})").version.has_value());
  BOOST_TEST(*command(R"({"action":"rollback","version":3})").version == 3u);
  BOOST_TEST((command(R"({"action":"reset"})").action == Action::kReset));
  BOOST_TEST((command(R"({"action":"freeze"})").action == Action::kFreeze));
  BOOST_TEST((command(R"({"action":"unfreeze"})").action == Action::kUnfreeze));
  const std::string digest(64, '0');
  const auto import = command(R"({"action":"import","uri":"a.gguf","sha256":")" + digest + "\"}");
  BOOST_TEST((import.action == Action::kImport));
  BOOST_TEST(import.uri == "a.gguf");
  BOOST_TEST(import.sha256 == digest);
  BOOST_TEST(DecodedData<Forget>("nudge.forget", R"({"user":"u"})").user == "u");
  BOOST_TEST(DecodedData<Forget>("nudge.forget", R"({"document_id":"d"})").document_id == "d");
  const auto event = DecodedData<Forget>("nudge.forget", R"({"event_id":7,"event_source":"/s"})");
  BOOST_TEST(event.event_id == "7");
  BOOST_TEST(event.event_source == "/s");
}

BOOST_AUTO_TEST_CASE(a_command_names_a_user_and_is_another_one_without) {
  const auto content = [](const std::string& data) {
    return ContentOf(Decoded(EventLine("nudge.adapter", data)));
  };
  const std::string named = R"({"action":"reset","user":"u"})";
  BOOST_TEST(DecodedData<AdapterCommand>("nudge.adapter", named).user == "u");
  BOOST_TEST(content(named) != content(R"({"action":"reset"})"));
  BOOST_TEST(content(named) != content(R"({"action":"reset","user":"v"})"));
  for (const std::string action : {"freeze", "unfreeze"}) {
    const Result<Event> event =
        DecodeEvent(EventLine("nudge.adapter", R"({"action":")" + action + R"(","user":"u"})"), {});
    BOOST_REQUIRE(!event.ok());
    BOOST_TEST(event.error().message == "data.user: " + action + " takes no user");
  }
}

BOOST_AUTO_TEST_CASE(a_comment_is_read_and_changes_the_content_of_no_event_without_one) {
  const auto content = [](const std::string& data) {
    return ContentOf(Decoded(EventLine("nudge.feedback", data)));
  };
  const std::string plain = R"({"query_id":"q","rating":1})";
  const std::string with = R"({"query_id":"q","rating":1,"comment":"too long"})";
  BOOST_TEST(DecodedData<Feedback>("nudge.feedback", with).comment == "too long");
  BOOST_TEST(content(plain) == content(R"({"query_id":"q","rating":1,"comment":null})"));
  BOOST_TEST(content(plain) != content(with));
  BOOST_TEST(content(with) != content(R"({"query_id":"q","rating":1,"comment":"too short"})"));
}

BOOST_AUTO_TEST_CASE(every_kind_of_event_survives_encoding) {
  for (const Event& event : AllKindsOfEvents()) {
    const std::string line = EncodeEvent(event);
    BOOST_TEST(line.find('\n') == line.npos);
    const Event again = Decoded(line);
    BOOST_TEST(Same(event, again), line);
    BOOST_TEST(EncodeEvent(again) == line);
    BOOST_TEST(Json::parse(line)["type"] == TypeName(event));
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_json_is_refused_with_its_place) {
  const std::string remedy = "write one CloudEvents 1.0 object as JSON";
  const std::string good = EventLine("nudge.query", R"({"text":"when?"})");
  CheckRefused("", Code::kInvalidJson, "empty: no JSON");
  CheckRefused(" \t", Code::kInvalidJson, "empty: no JSON");
  CheckRefused("hello", Code::kInvalidJson, "not JSON from byte 0 on");
  CheckRefused(R"({"id":"a",})", Code::kInvalidJson, "not JSON from byte 10 on");
  CheckRefused(R"({"id" "a"})", Code::kInvalidJson, "not JSON from byte 8 on");
  CheckRefused(good + "x", Code::kInvalidJson,
               "not JSON from byte " + std::to_string(good.size()) + " on");
  CheckRefused(good + good, Code::kInvalidJson,
               "not JSON from byte " + std::to_string(good.size()) + " on");
  for (size_t size = 1; size < good.size(); ++size) {
    CheckRefused(good.substr(0, size), Code::kInvalidJson,
                 "not JSON: it ends too early, after " + std::to_string(size) + " bytes");
  }
  CheckDataRefused("nudge.query", R"({"text":NaN})", "not JSON: NaN at byte 100",
                   Code::kInvalidJson);
  BOOST_TEST(DecodeEvent("x").error().remedy == remedy);
}

BOOST_AUTO_TEST_CASE(numbers_that_are_not_json_are_refused) {
  for (const char* const number : {"01", "+1", ".5", "1.", "--1", "00000000000000000000001"}) {
    const Result<Event> event = DecodeEvent(
        EventLine("nudge.feedback", std::string(R"({"query_id":"q","rating":)") + number + "}"));
    BOOST_TEST_REQUIRE(!event.ok(), number);
    BOOST_TEST((event.error().code == Code::kInvalidJson), number);
  }
}

BOOST_AUTO_TEST_CASE(an_escape_that_is_half_a_character_is_refused) {
  for (const char* const text : {R"(\ud800)", R"(\udc00)", R"(\ud800x)", R"(\ud800\u0041)",
                                 R"(\udc00\ud800)", R"(\u12)", R"(\x41)"}) {
    const Result<Event> event =
        DecodeEvent(EventLine("nudge.query", std::string(R"({"text":")") + text + "\"}"));
    BOOST_TEST_REQUIRE(!event.ok(), text);
    BOOST_TEST((event.error().code == Code::kInvalidJson), text);
  }
  BOOST_TEST(DecodedData<Query>("nudge.query", R"({"text":"\ud83d\ude00"})").text ==
             "\xf0\x9f\x98\x80");
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_utf8_are_refused_with_their_place) {
  const std::string before = EventLine("nudge.query", R"({"text":")");
  const size_t at = before.size() - 1;  // EventLine closed the object
  for (const char* const bytes :
       {"\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",  // never, and overlong
        "\xed\xa0\x80", "\xed\xbf\xbf",                          // surrogates
        "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",              // over U+10FFFF
        "\xe2\x82", "\xc3", "\x80"}) {                           // cut short, no beginning
    CheckRefused(EventLine("nudge.query", std::string(R"({"text":")") + bytes + "\"}"),
                 Code::kInvalidUtf8, "not UTF-8 at byte " + std::to_string(at));
  }
}

BOOST_AUTO_TEST_CASE(the_top_must_be_one_object) {
  CheckRefused("[]", Code::kInvalidEvent, "event: expected one JSON object, found an array");
  CheckRefused("1", Code::kInvalidEvent, "event: expected one JSON object, found an integer");
  CheckRefused("null", Code::kInvalidEvent, "event: expected one JSON object, found null");
}

BOOST_AUTO_TEST_CASE(missing_attributes_are_named) {
  const std::string whole = EventLine("nudge.query", R"({"text":"when?"})");
  for (const char* const name : {"specversion", "id", "source", "type", "tenant", "data"}) {
    Json without = Json::parse(whole);
    without.erase(name);
    CheckRefused(without.dump(), Code::kInvalidEvent, std::string(name) + ": missing");
    without[name] = nullptr;
    CheckRefused(without.dump(), Code::kInvalidEvent, std::string(name) + ": missing");
  }
}

BOOST_AUTO_TEST_CASE(attributes_of_the_wrong_type_empty_or_with_control_characters_are_refused) {
  const std::string whole = EventLine("nudge.query", R"({"text":"when?"})");
  for (const char* const name : {"specversion", "id", "source", "type", "time", "tenant", "user"}) {
    const std::string path = std::string(name) + ": ";
    Json changed = Json::parse(whole);
    changed[name] = true;
    CheckRefused(changed.dump(), Code::kInvalidEvent, path + "expected a string, found a boolean");
    changed[name] = "";
    CheckRefused(changed.dump(), Code::kInvalidEvent, path + "empty");
    for (const std::string& control :
         {std::string(1, '\0'), std::string("\n"), std::string("\x7f"), std::string("\xc2\x85")}) {
      changed[name] = "a" + control + "b";
      CheckRefused(changed.dump(), Code::kInvalidEvent, path + "has a control character");
    }
  }
}

BOOST_AUTO_TEST_CASE(other_versions_content_types_and_binary_data_are_refused) {
  Json event = Json::parse(EventLine("nudge.query", R"({"text":"when?"})"));
  Json changed = event;
  changed["specversion"] = "0.3";
  CheckRefused(changed.dump(), Code::kInvalidEvent, "specversion: 0.3 is not 1.0");
  changed = event;
  changed["datacontenttype"] = "text/xml";
  CheckRefused(changed.dump(), Code::kInvalidEvent,
               "datacontenttype: text/xml is not application/json");
  changed["datacontenttype"] = "Application/JSON ; charset=utf-8";
  Decoded(changed.dump());
  changed["datacontenttype"] = nullptr;
  Decoded(changed.dump());
  changed = event;
  changed["data_base64"] = "e30=";
  CheckRefused(changed.dump(), Code::kInvalidEvent, "data_base64: binary data");
  changed["data_base64"] = nullptr;
  Decoded(changed.dump());
}

BOOST_AUTO_TEST_CASE(an_unknown_type_is_refused_and_the_known_ones_are_listed) {
  const std::string line = EventLine("nudge.qurey", R"({"text":"when?"})");
  CheckRefused(line, Code::kUnknownType, "type: nudge.qurey is unknown");
  BOOST_TEST(DecodeEvent(line).error().remedy.find("nudge.query,") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(unknown_fields_in_data_are_refused_with_their_path) {
  CheckDataRefused("nudge.query", R"({"text":"a","temperature":1})",
                   "data.temperature: unknown field");
  CheckDataRefused("nudge.query", R"({"text":"a","options":{"max_token":1}})",
                   "data.options.max_token: unknown field");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","signals":{"click":true}})",
                   "data.signals.click: unknown field");
  CheckDataRefused("nudge.prompt.upsert", R"({"prompt_id":"p","system":"","decoding":{"topp":1}})",
                   "data.decoding.topp: unknown field");
  CheckDataRefused("nudge.forget", R"({"user":"u","x\ny":1})", "data.x?y: unknown field");
  const Result<Event> event =
      DecodeEvent(EventLine("nudge.feedback", R"({"query_id":"q","corection":"c"})"));
  BOOST_TEST(event.error().remedy ==
             "known fields: query_id, query_source, inline, rating, correction, comment, signals");
}

BOOST_AUTO_TEST_CASE(a_field_that_is_given_twice_is_refused) {
  CheckDataRefused("nudge.query", R"({"text":"a","text":"b"})", "data.text: given twice");
  CheckDataRefused("nudge.document.upsert",
                   R"({"document_id":"d","text":"t","metadata":{"k":"1","k":"2"}})",
                   "data.metadata.k: given twice");
  CheckRefused(R"({"specversion":"1.0","id":"a","id":"b"})", Code::kInvalidEvent,
               "id: given twice");
}

BOOST_AUTO_TEST_CASE(fields_of_the_wrong_type_are_refused_with_their_path) {
  CheckRefused(EventLine("nudge.query", "[]"), Code::kInvalidEvent,
               "data: expected an object, found an array");
  CheckDataRefused("nudge.query", R"({"text":1})",
                   "data.text: expected a string, found an integer");
  CheckDataRefused("nudge.query", R"({"text":null})", "data.text: expected a string, found null");
  CheckDataRefused("nudge.query", R"({"text":"a","options":[]})",
                   "data.options: expected an object, found an array");
  CheckDataRefused("nudge.query", R"({"text":"a","options":{"max_tokens":5.5}})",
                   "data.options.max_tokens: expected an integer, found a number with a fraction "
                   "or exponent");
  CheckDataRefused("nudge.query", R"({"text":"a","options":{"temperature":"hot"}})",
                   "data.options.temperature: expected a number, found a string");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","rating":true})",
                   "data.rating: a boolean is no rating");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","signals":{"clicked":1}})",
                   "data.signals.clicked: expected a boolean, found an integer");
  CheckDataRefused("nudge.document.upsert",
                   R"({"document_id":"d","text":"t","metadata":{"k":{"a":1}}})",
                   "data.metadata.k: expected a string, found an object");
}

BOOST_AUTO_TEST_CASE(numbers_out_of_range_are_refused_with_their_path) {
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","rating":7})",
                   "data.rating: 7 is outside -1..1");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","rating":-1.5})",
                   "data.rating: -1.5 is outside -1..1");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","rating":"good"})",
                   R"(data.rating: "good" is neither "up" nor "down")");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","signals":{"dwell_ms":-1}})",
                   "data.signals.dwell_ms: -1 is outside 0..4294967295");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","signals":{"dwell_ms":4294967296}})",
                   "data.signals.dwell_ms: 4294967296 is outside 0..4294967295");
  const auto option = [](const std::string& name, const std::string& value) {
    return R"({"text":"a","options":{")" + name + "\":" + value + "}}";
  };
  CheckDataRefused("nudge.query", option("max_tokens", "0"),
                   "data.options.max_tokens: 0 is outside 1..4096");
  CheckDataRefused("nudge.query", option("max_tokens", "18446744073709551615"),
                   "data.options.max_tokens: 18446744073709551615 is outside 1..4096");
  CheckDataRefused("nudge.query", option("temperature", "2.1"),
                   "data.options.temperature: 2.1 is outside 0..2");
  CheckDataRefused("nudge.query", option("seed", "-1"),
                   "data.options.seed: -1 is outside 0..18446744073709551615");
  CheckDataRefused("nudge.prompt.upsert", R"({"prompt_id":"p","system":"","decoding":{"top_p":0}})",
                   "data.decoding.top_p: 0 leaves no token to draw");
}

BOOST_AUTO_TEST_CASE(missing_and_empty_fields_are_refused_with_their_path) {
  CheckDataRefused("nudge.query", "{}", "data.text: missing");
  CheckDataRefused("nudge.query", R"({"text":""})", "data.text: empty");
  CheckDataRefused("nudge.document.upsert", R"({"document_id":"d"})", "data.text: missing");
  CheckDataRefused("nudge.document.upsert", R"({"text":"t"})", "data.document_id: missing");
  CheckDataRefused("nudge.document.delete", "{}", "data.document_id: missing");
  CheckDataRefused("nudge.document.upsert", R"({"document_id":"d","text":"t","metadata":{"":"x"}})",
                   "data.metadata.: empty name");
  CheckDataRefused("nudge.example", R"({"query":"q"})", "data.answer: missing");
  CheckDataRefused("nudge.prompt.upsert", R"({"prompt_id":"p"})", "data.system: missing");
  CheckDataRefused("nudge.prompt.delete", "{}", "data.prompt_id: missing");
  CheckDataRefused("nudge.feedback", R"({"inline":{"query":"q"},"rating":1})",
                   "data.inline.completion: missing");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","signals":{}})", "data.signals: empty");
}

BOOST_AUTO_TEST_CASE(feedback_that_says_too_little_or_too_much_is_refused) {
  CheckDataRefused("nudge.feedback", R"({"rating":1})",
                   "data: exactly one of query_id and inline is needed");
  CheckDataRefused("nudge.feedback",
                   R"({"query_id":"q","inline":{"query":"q","completion":"a"},"rating":1})",
                   "data: exactly one of query_id and inline is needed");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q"})",
                   "data: none of rating, correction and signals is given");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","comment":"so what"})",
                   "data: none of rating, correction and signals is given");
  CheckDataRefused("nudge.feedback",
                   R"({"query_source":"/w","inline":{"query":"q","completion":"a"},"rating":1})",
                   "data.query_source: an inline answer has no query to look up");
  CheckDataRefused("nudge.feedback", R"({"query_id":"q","rating":null,"correction":"a"})",
                   "data.rating: null takes back all that was said of the answer, a correction "
                   "beside it would say something");
  CheckDataRefused("nudge.feedback",
                   R"({"rating":null,"query_id":"q","signals":{"clicked":false}})",
                   "data.rating: null takes back all that was said of the answer, signals beside "
                   "it would say something");
}

BOOST_AUTO_TEST_CASE(adapter_commands_and_forget_that_do_not_add_up_are_refused) {
  CheckDataRefused("nudge.adapter", R"({"action":"undo"})", R"(data.action: "undo" is unknown)");
  CheckDataRefused("nudge.adapter", R"({"action":"reset","version":1})",
                   "data.version: reset takes no version");
  CheckDataRefused("nudge.adapter", R"({"action":"freeze","uri":"x"})",
                   "data.uri: freeze takes no uri");
  CheckDataRefused("nudge.adapter", R"({"action":"import"})", "data.uri: missing");
  CheckDataRefused("nudge.adapter", R"({"action":"import","uri":"x"})", "data.sha256: missing");
  CheckDataRefused("nudge.adapter", R"({"action":"import","uri":"x","sha256":"AB"})",
                   "data.sha256: expected 64 lower-case hex digits");
  const std::string one =
      "data: exactly one of user, document_id, event_id and conversation_id is needed";
  CheckDataRefused("nudge.forget", "{}", one);
  CheckDataRefused("nudge.forget", R"({"user":"u","document_id":"d"})", one);
  CheckDataRefused("nudge.forget", R"({"user":"u","event_id":"e"})", one);
  CheckDataRefused("nudge.forget", R"({"document_id":"d","event_id":"e"})", one);
  CheckDataRefused("nudge.forget", R"({"user":"u","event_source":"/s"})",
                   "data.event_source: it goes with an event_id");
  CheckDataRefused("nudge.forget", R"({"event_id":"e","documents":true})",
                   "data.documents: it goes with a user");
}

BOOST_AUTO_TEST_CASE(earlier_turns_are_refused_by_their_path) {
  const auto refused = [](const std::string& messages, const std::string& message) {
    CheckDataRefused("nudge.query", R"({"text":"x","messages":)" + messages + "}", message);
  };
  refused(R"({"role":"user"})", "data.messages: expected an array, found an object");
  refused(R"(["x"])", "data.messages.0: expected an object, found a string");
  refused(R"([{"role":"user"}])", "data.messages.0.content: missing");
  refused(R"([{"content":"x"}])", "data.messages.0.role: missing");
  refused(R"([{"role":"user","content":"x"},{"role":"assistant","content":""}])",
          "data.messages.1.content: empty");
  refused(R"([{"role":"system","content":"x"}])",
          "data.messages.0.role: system is no role of an earlier turn");
  refused(R"([{"role":"user","content":"x","name":"y"}])", "data.messages.0.name: unknown field");
}

BOOST_AUTO_TEST_CASE(earlier_turns_have_limits_of_their_own) {
  EventLimits limits;
  limits.messages = 2;
  limits.messages_bytes = 10;
  const auto line = [](const std::vector<std::string>& turns) {
    std::string messages;
    for (const std::string& turn : turns) {
      messages +=
          std::string(messages.empty() ? "" : ",") + R"({"role":"user","content":")" + turn + "\"}";
    }
    return EventLine("nudge.query", R"({"text":"x","messages":[)" + messages + "]}");
  };
  BOOST_TEST(DecodeEvent(line({"12345", "12345"}), limits).ok());
  CheckRefused(line({"1", "2", "3"}), Code::kTooLarge,
               "data.messages: 3 messages are over the limit of 2", limits);
  CheckRefused(line({"12345", "123456"}), Code::kTooLarge,
               "data.messages: 11 bytes or more are over the limit of 10", limits);
}

BOOST_AUTO_TEST_CASE(every_limit_holds_to_the_byte) {
  EventLimits limits;
  limits.text_bytes = 10;
  limits.query_bytes = 11;
  limits.answer_bytes = 12;
  limits.prompt_bytes = 13;
  limits.comment_bytes = 14;
  limits.id_bytes = 64;
  limits.tenant_bytes = 4;
  limits.title_bytes = 15;
  limits.uri_bytes = 16;
  limits.metadata_bytes = 17;
  limits.metadata_entries = 2;
  const auto check = [&](const std::string& type, const std::string& name, size_t limit,
                         const std::string& path, const std::string& rest) {
    const auto line = [&](size_t size) {
      return EventLine(type, "{\"" + name + "\":\"" + std::string(size, 'x') + "\"" + rest + "}");
    };
    BOOST_TEST(DecodeEvent(line(limit), limits).ok(), path);
    CheckRefused(line(limit + 1), Code::kTooLarge,
                 path + ": " + std::to_string(limit + 1) + " bytes are over the limit of " +
                     std::to_string(limit),
                 limits);
  };
  check("nudge.document.upsert", "text", 10, "data.text", R"(,"document_id":"d")");
  check("nudge.document.upsert", "title", 15, "data.title", R"(,"text":"t","document_id":"d")");
  check("nudge.document.delete", "document_id", 64, "data.document_id", "");
  check("nudge.query", "text", 11, "data.text", "");
  check("nudge.example", "answer", 12, "data.answer", R"(,"query":"q")");
  check("nudge.feedback", "correction", 12, "data.correction", R"(,"query_id":"q")");
  check("nudge.feedback", "comment", 14, "data.comment", R"(,"query_id":"q","rating":1)");
  check("nudge.prompt.upsert", "system", 13, "data.system", R"(,"prompt_id":"p")");
  check("nudge.adapter", "uri", 16, "data.uri",
        R"(,"action":"import","sha256":")" + std::string(64, '0') + "\"");
  const auto metadata = [&](const std::string& entries) {
    return EventLine("nudge.document.upsert",
                     R"({"document_id":"d","text":"t","metadata":{)" + entries + "}}");
  };
  BOOST_TEST(DecodeEvent(metadata(R"("a":"1234567","b":"12345678")"), limits).ok());
  CheckRefused(metadata(R"("a":"1234567","b":"123456789")"), Code::kTooLarge,
               "data.metadata: 18 bytes or more are over the limit of 17", limits);
  CheckRefused(metadata(R"("a":"","b":"","c":"","d":"")"), Code::kTooLarge,
               "data.metadata: 3 entries or more are over the limit of 2", limits);
  Json event = Json::parse(EventLine("nudge.query", R"({"text":"a"})"));
  event["tenant"] = "acmee";
  CheckRefused(event.dump(), Code::kTooLarge, "tenant: 5 bytes are over the limit of 4", limits);
  limits.line_bytes = 20;
  CheckRefused(std::string(21, ' '), Code::kTooLarge, "event: 21 bytes are over the limit of 20",
               limits);
  BOOST_TEST(DecodeEvent(std::string(21, ' '), limits).error().remedy ==
             "shorten it, or raise limits.line_bytes");
}

BOOST_AUTO_TEST_CASE(json_may_be_nested_to_its_limit_and_no_deeper) {
  const auto nested = [](size_t depth) {
    const std::string arrays = std::string(depth - 1, '[') + "1" + std::string(depth - 1, ']');
    std::string line = EventLine("nudge.query", R"({"text":"a"})");
    return line.insert(1, "\"extension\":" + arrays + ",");
  };
  EventLimits limits;
  for (const size_t depth : {size_t{3}, size_t{16}, size_t{100}}) {
    limits.json_depth = depth;
    BOOST_TEST(DecodeEvent(nested(depth), limits).ok(), depth);
    CheckRefused(nested(depth + 1), Code::kTooLarge,
                 "JSON is nested deeper than " + std::to_string(depth), limits);
  }
  const std::string deep = std::string(400'000, '[') + std::string(400'000, ']');
  BOOST_TEST((DecodeEvent(deep).error().code == Code::kTooLarge));
  BOOST_TEST((PeekHead(deep) == EventHead{}));
}

BOOST_AUTO_TEST_CASE(a_refused_event_leaves_nothing_behind_for_the_next) {
  const std::string good = EventLine("nudge.query", R"({"text":"when?"})");
  for (size_t size = 0; size < good.size(); ++size) {
    BOOST_TEST(!DecodeEvent(good.substr(0, size)).ok());
    BOOST_TEST(std::get<Query>(Decoded(good).data).text == "when?");
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(heads)

BOOST_AUTO_TEST_CASE(a_head_is_read_from_a_refused_event) {
  const EventHead whole{"acme", "/app", "e-1", "nudge.what"};
  const std::string line = EventLine("nudge.what", R"({"text":"when?"})");
  BOOST_TEST((PeekHead(line) == whole));
  BOOST_TEST((PeekHead(line.substr(0, line.size() - 5)) == whole));
  BOOST_TEST((PeekHead(line + "garbage") == whole));
}

BOOST_AUTO_TEST_CASE(a_head_is_what_stands_before_the_damage) {
  const std::string line = EventLine("nudge.query", R"({"text":"when?"})");
  const size_t in_tenant = line.find("acme") + 2;
  BOOST_TEST((PeekHead(line.substr(0, in_tenant)) == EventHead{"", "/app", "e-1", "nudge.query"}));
  BOOST_TEST((PeekHead("") == EventHead{}));
  BOOST_TEST((PeekHead("[\"tenant\"]") == EventHead{}));
}

BOOST_AUTO_TEST_CASE(a_head_is_read_past_bytes_that_are_not_utf8) {
  const std::string line =
      "{\"data\":\"\xff\xfe\",\"tenant\":\"acme\",\"id\":\"a\xff\",\"source\":1}";
  BOOST_TEST((PeekHead(line) == EventHead{"acme", "1", "", ""}));
}

BOOST_AUTO_TEST_CASE(a_head_holds_no_nested_long_or_unprintable_name) {
  BOOST_TEST(
      (PeekHead(R"({"data":{"tenant":"inner"},"id":["x"],"source":{"id":"y"}})") == EventHead{}));
  BOOST_TEST(
      (PeekHead(R"({"tenant":"a\nb","id":")" + std::string(257, 'x') + R"("})") == EventHead{}));
  BOOST_TEST(
      (PeekHead(R"({"tenant":"first","tenant":"second"})") == EventHead{"first", "", "", ""}));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(outcomes)

BOOST_AUTO_TEST_CASE(a_response_survives_and_another_parser_reads_it) {
  const Response response = FullResponse();
  Outcome outcome = OutcomeWith(response);
  outcome.snapshots = {{"acme/7", std::string(64, 'b'), 7, "d", "p", "b"},
                       {"x", "", 0, "", "", ""}};
  using enum LessonEnd::What;
  outcome.lesson_ends = {{140, kSetAside, "it does not follow"},
                         {141, kLearntAfterAll, ""},
                         {142, kRefused, "again"},
                         {143, kFailed, "it was too long"}};
  const Outcome back = RoundTrip(outcome, OriginAt(3, 9'007'199'254'740'993)).outcome;
  const Response& read = std::get<Response>(back.what);
  BOOST_TEST(read.text == response.text);
  BOOST_TEST((read.citations == response.citations));
  BOOST_TEST(read.prompt_id == response.prompt_id);
  BOOST_TEST(read.prompt_version == response.prompt_version);
  BOOST_TEST(read.decoding_name == response.decoding_name);
  BOOST_TEST((read.decoding == response.decoding));
  BOOST_TEST(read.propensity == response.propensity);
  BOOST_TEST(read.adapter_version == response.adapter_version);
  BOOST_TEST(read.adapter_digest == response.adapter_digest);
  BOOST_TEST(read.cache_hit == response.cache_hit);
  BOOST_TEST(read.cache_why == response.cache_why);
  BOOST_TEST(read.prompt_tokens == response.prompt_tokens);
  BOOST_TEST(read.completion_tokens == response.completion_tokens);
  BOOST_TEST((read.finish_reason == response.finish_reason));

  const Json json = Json::parse(Encoded(outcome, OriginAt(3, 17)));
  BOOST_TEST(json["specversion"] == "1.0");
  BOOST_TEST(json["id"] == OutcomeId(outcome, 3, 17));
  BOOST_TEST(json["source"] == "nudge");
  BOOST_TEST(json["type"] == "nudge.response");
  BOOST_TEST(json["tenant"] == "acme");
  BOOST_TEST(json["subject"] == "/app/e \"1\"");
  BOOST_TEST(json["datacontenttype"] == "application/json");
  BOOST_TEST(json["partition"] == 3);
  BOOST_TEST(json["offset"] == "17");
  const Json& data = json["data"];
  BOOST_TEST(data["event"]["source"] == "/app");
  BOOST_TEST(data["event"]["id"] == "e \"1\"");
  BOOST_TEST(data["event"]["type"] == "nudge.query");
  BOOST_TEST(data["text"] == response.text);
  BOOST_TEST(data["citations"].size() == 3u);
  BOOST_TEST(data["citations"][1]["document_id"] == "d/2");
  BOOST_TEST(data["citations"][1]["version"] == 1);
  BOOST_TEST(data["citations"][1]["score"].get<double>() == 1.0 / 3);
  BOOST_TEST(data["prompt"]["prompt_id"] == "default");
  BOOST_TEST(data["prompt"]["version"] == 4294967295);
  BOOST_TEST(data["decoding"]["name"] == "plain");
  BOOST_TEST(data["decoding"]["temperature"].get<double>() == 0.7);
  BOOST_TEST(data["decoding"]["top_p"].get<double>() == 0.95);
  BOOST_TEST(data["decoding"]["top_k"] == 40);
  BOOST_TEST(data["decoding"]["max_tokens"] == 256);
  BOOST_TEST(data["propensity"].get<double>() == 0.30000000000000004);
  BOOST_TEST(data["adapter"]["version"] == 7);
  BOOST_TEST(data["adapter"]["digest"] == response.adapter_digest);
  BOOST_TEST(data["cache"]["hit"] == true);
  BOOST_TEST(data["cache"]["why"] == response.cache_why);
  BOOST_TEST(data["tokens"]["prompt"] == 12);
  BOOST_TEST(data["tokens"]["completion"] == 34);
  BOOST_TEST(data["finish_reason"] == "length");
  BOOST_TEST(data["snapshots"][0]["uri"] == "acme/7");
  BOOST_TEST(data["snapshots"][0]["sha256"] == std::string(64, 'b'));
  BOOST_TEST(data["snapshots"][0]["version"] == 7);
  BOOST_TEST(data["snapshots"][0]["digest"] == "d");
  BOOST_TEST(data["snapshots"][0]["parent_digest"] == "p");
  BOOST_TEST(data["snapshots"][0]["base_sha256"] == "b");
  BOOST_TEST(data["lesson_ends"][0] ==
             Json({{"event", 140}, {"end", "set_aside"}, {"why", "it does not follow"}}));
}

BOOST_AUTO_TEST_CASE(every_reason_why_an_answer_ends_survives_and_one_that_is_unknown_is_left_out) {
  Response response = FullResponse();
  for (const auto reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kWindow,
                            FinishReason::kUnknown}) {
    response.finish_reason = reason;
    const Outcome outcome = OutcomeWith(response);
    const Outcome back = RoundTrip(outcome, OriginAt(0, 1)).outcome;
    BOOST_TEST((std::get<Response>(back.what).finish_reason == reason));
    const Json data = Json::parse(Encoded(outcome, OriginAt(0, 1)))["data"];
    BOOST_TEST(data.value("finish_reason", "") == Name(reason));
  }
}

BOOST_AUTO_TEST_CASE(a_receipt_survives_and_another_parser_reads_it) {
  const Outcome outcome =
      OutcomeWith(Applied{"training step 12", std::numeric_limits<uint64_t>::max(), 5});
  const Applied read = std::get<Applied>(RoundTrip(outcome, OriginAt(0, 0)).outcome.what);
  BOOST_TEST(read.summary == "training step 12");
  BOOST_TEST(*read.step == std::numeric_limits<uint64_t>::max());
  BOOST_TEST(*read.makes_version == 5u);
  const Json json = Json::parse(Encoded(outcome, OriginAt(0, 0)));
  BOOST_TEST(json["type"] == "nudge.applied");
  BOOST_TEST(json["data"]["step"] == std::numeric_limits<uint64_t>::max());
  BOOST_TEST(!json["data"].contains("snapshots"));

  const Outcome plain = OutcomeWith(Applied{"3 chunks indexed", std::nullopt, std::nullopt});
  const Applied read_plain = std::get<Applied>(RoundTrip(plain, OriginAt(0, 1)).outcome.what);
  BOOST_TEST(!read_plain.step.has_value());
  BOOST_TEST(!read_plain.makes_version.has_value());
}

BOOST_AUTO_TEST_CASE(a_dead_letter_survives_whatever_bytes_it_carries) {
  const std::string every_byte = [] {
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
    return bytes;
  }();
  for (const std::string& bytes : {std::string("plain \"text\"\n"), std::string(), every_byte,
                                   every_byte + "x", every_byte + "xy", std::string("\xff")}) {
    const DeadLetter letter = FullDeadLetter(bytes);
    const DeadLetter read =
        std::get<DeadLetter>(RoundTrip(OutcomeWith(letter), OriginAt(1, 2)).outcome.what);
    BOOST_TEST(read.stage == "decode");
    BOOST_TEST((read.error == letter.error));
    BOOST_TEST((read.bytes == bytes));
    BOOST_TEST(read.bytes_sha256 == Sha256Hex(bytes));
    BOOST_TEST(read.bytes_total == bytes.size());
    const Json json = Json::parse(Encoded(OutcomeWith(letter), OriginAt(1, 2)));
    BOOST_TEST(json["type"] == "nudge.dead_letter");
    BOOST_TEST(json["data"]["code"] == "invalid_event");
    BOOST_TEST(json["data"].contains("bytes") == IsUtf8(bytes));
    BOOST_TEST(json["data"].contains("bytes_base64") == !IsUtf8(bytes));
  }
  BOOST_TEST(Json::parse(Encoded(OutcomeWith(FullDeadLetter("\xff\xfe")),
                                 OriginAt(1, 2)))["data"]["bytes_base64"] == "//4=");
}

BOOST_AUTO_TEST_CASE(every_error_code_survives) {
  for (int i = 0; i <= static_cast<int>(kLastCode); ++i) {
    DeadLetter letter = FullDeadLetter("x");
    letter.error.code = static_cast<Code>(i);
    const RecordedOutcome read = RoundTrip(OutcomeWith(letter), OriginAt(0, 0));
    BOOST_TEST((std::get<DeadLetter>(read.outcome.what).error.code == static_cast<Code>(i)));
  }
}

BOOST_AUTO_TEST_CASE(a_dead_letter_of_an_unreadable_event_survives) {
  Outcome outcome;
  outcome.what = FullDeadLetter("{");
  RoundTrip(outcome, OriginAt(2, 9));
  const Json json = Json::parse(Encoded(outcome, OriginAt(2, 9)));
  BOOST_TEST(!json.contains("tenant"));
  BOOST_TEST(!json.contains("subject"));
}

BOOST_AUTO_TEST_CASE(a_dead_letter_is_cut_between_characters) {
  const std::string bytes = "a\xc3\xa9\xf0\x9f\x98\x80z";
  const auto cut = [&](size_t keep_bytes) {
    return MakeDeadLetter("decode", {}, bytes, keep_bytes);
  };
  BOOST_TEST(cut(100).bytes == bytes);
  BOOST_TEST(cut(7).bytes == "a\xc3\xa9\xf0\x9f\x98\x80");
  BOOST_TEST(cut(6).bytes == "a\xc3\xa9");
  BOOST_TEST(cut(2).bytes == "a");
  BOOST_TEST(cut(0).bytes == "");
  BOOST_TEST(cut(2).bytes_total == 8u);
  BOOST_TEST(cut(2).bytes_sha256 == Sha256Hex(bytes));
}

BOOST_AUTO_TEST_CASE(ids_of_outcomes_are_derived_from_the_event_and_never_from_its_place) {
  const Outcome response = OutcomeWith(FullResponse());
  Outcome other = response;
  other.id = "e2";
  const std::string id = OutcomeId(response, 0, 0);
  BOOST_TEST(id.size() == 32u);
  BOOST_TEST(id == Hex(Sha256Parts({"acme", "/app", "e \"1\"", "nudge.response"})).substr(0, 32));
  BOOST_TEST(id == OutcomeId(response, 5, 6));
  BOOST_TEST(id != OutcomeId(other, 0, 0));
  BOOST_TEST(id != OutcomeId(OutcomeWith(Applied{}), 0, 0));
  other.id.clear();
  BOOST_TEST(OutcomeId(other, 0, 0) != OutcomeId(other, 0, 1));
  BOOST_TEST(OutcomeId(other, 0, 0) != OutcomeId(other, 1, 0));
}

BOOST_AUTO_TEST_CASE(the_same_outcome_always_has_the_same_bytes) {
  BOOST_TEST(
      Encoded(OutcomeWith(Applied{"3 chunks indexed", 7, std::nullopt}), OriginAt(1, 2)) ==
      R"({"specversion":"1.0","id":")" + OutcomeId(OutcomeWith(Applied{}), 1, 2) +
          R"(","source":"nudge","type":"nudge.applied","tenant":"acme",)"
          R"("subject":"/app/e \"1\"","datacontenttype":"application/json","partition":1,)"
          R"("offset":"2","data":{"event":{"source":"/app","id":"e \"1\"","type":"nudge.query"},)"
          R"("summary":"3 chunks indexed","step":7}})");
}

BOOST_AUTO_TEST_CASE(numbers_without_json_and_bad_bytes_in_texts_never_spoil_the_log) {
  Response response = FullResponse();
  response.text = "bad \xff byte";
  response.propensity = std::numeric_limits<double>::quiet_NaN();
  response.citations[0].score = std::numeric_limits<double>::infinity();
  response.citations[1].score = -0.0;
  Outcome outcome = OutcomeWith(response);
  const Result<RecordedOutcome> read = DecodeOutcome(Encoded(outcome, OriginAt(0, 0)));
  BOOST_TEST_REQUIRE(read.ok());
  const Response& back = std::get<Response>(read->outcome.what);
  BOOST_TEST(back.text == "bad \xef\xbf\xbd byte");
  BOOST_TEST(std::isnan(back.propensity));
  BOOST_TEST(std::isnan(back.citations[0].score));
  BOOST_TEST(!std::signbit(back.citations[1].score));
  BOOST_TEST(Encoded(read->outcome, OriginAt(0, 0)) == Encoded(outcome, OriginAt(0, 0)));
}

BOOST_AUTO_TEST_CASE(the_chain_stands_last_and_comes_off_again) {
  const std::string encoded = Encoded(OutcomeWith(Applied{"x", 1, 2}), OriginAt(1, 2));
  std::string line = "before\n" + encoded;
  AppendChain(Sha256("c"), line);
  BOOST_TEST(line.starts_with("before\n" + encoded.substr(0, encoded.size() - 1)));
  BOOST_TEST(line.ends_with(R"(,"chain":")" + Hex(Sha256("c")) + R"("})"));
  const ChainedLine split = SplitChain(line.substr(7));
  BOOST_TEST(split.encoded == encoded);
  BOOST_TEST(split.chain == Hex(Sha256("c")));
  BOOST_TEST(SplitChain(encoded).encoded == encoded);
  BOOST_TEST(SplitChain(encoded).chain == "");
  BOOST_TEST(SplitChain("").chain == "");
}

BOOST_AUTO_TEST_CASE(the_chain_depends_on_everything_before_it) {
  const Sha256Digest start{};
  const Sha256Digest link = NextChain(start, 1, "{}");
  BOOST_TEST(Hex(link) == Sha256Hex(std::string(32, '\0') + '\x01' + std::string(7, '\0') + "{}"));
  BOOST_TEST((NextChain(link, 1, "{}") != link));
  BOOST_TEST((NextChain(start, 2, "{}") != link));
  BOOST_TEST((NextChain(start, 1, "{ }") != link));
}

BOOST_AUTO_TEST_CASE(a_line_that_is_not_an_outcome_is_refused) {
  const auto refused = [](const std::string& line, const std::string& why) {
    const Result<RecordedOutcome> read = DecodeOutcome(line);
    BOOST_TEST_REQUIRE(!read.ok(), "accepted: " << line);
    BOOST_TEST((read.error().code == Code::kUnreadableFile));
    BOOST_TEST(read.error().message == "not an outcome of nudge: " + why);
  };
  const std::string good = Encoded(OutcomeWith(FullResponse()), OriginAt(1, 2));
  refused("", "empty: no JSON");
  refused("[]", "expected one JSON object");
  refused(good.substr(0, 20), "not JSON: it ends too early, after 20 bytes");
  refused(EventLine("nudge.query", R"({"text":"a"})"), "source: is not nudge");
  const auto changed = [&](const std::string& pointer, Json value) {
    Json json = Json::parse(good);
    json[Json::json_pointer(pointer)] = std::move(value);
    return json.dump();
  };
  refused(changed("/type", "nudge.query"), "type: nudge.query is not an outcome");
  refused(changed("/tenant", "other"), "id: is not the id that this outcome must have");
  refused(changed("/offset", "2x"), "offset: not an offset");
  refused(changed("/offset", "02"), "offset: not an offset");
  refused(changed("/offset", "-2"), "offset: not an offset");
  refused(changed("/offset", 2), "offset: expected a string, found an integer");
  refused(changed("/chain", "ab"), "chain: expected 64 lower-case hex digits");
  refused(changed("/data/extra", 1), "data.extra: unknown field");
  refused(changed("/data/finish_reason", "bored"), "data.finish_reason: bored is unknown");
  refused(changed("/data/citations/1/score", "high"),
          "data.citations.1.score: expected a number, found a string");
  refused(changed("/partition", 4294967296),
          "partition: 4294967296 is outside -2147483648..2147483647");
  const std::string letter = Encoded(OutcomeWith(FullDeadLetter("\xff")), OriginAt(1, 2));
  Json json = Json::parse(letter);
  json["data"]["bytes_base64"] = "/w=";
  refused(json.dump(), "data.bytes_base64: not base64");
  json["data"]["bytes_base64"] = "/x==";  // bits that belong to no byte
  refused(json.dump(), "data.bytes_base64: not base64");
  json["data"]["bytes"] = "x";
  refused(json.dump(), "data: not exactly one of bytes and bytes_base64");
  json = Json::parse(letter);
  json["data"]["code"] = "strange";
  refused(json.dump(), "data.code: strange is unknown");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(writer)

BOOST_AUTO_TEST_CASE(texts_of_every_length_and_alignment_are_escaped_like_another_library_does) {
  for (const char special : {'"', '\\', '\n', '\r', '\t', '\x01', '\x1f', '\0', '\x7f', 'x'}) {
    for (size_t size = 0; size < 40; ++size) {
      for (size_t at = 0; at <= size; ++at) {
        std::string text(size, 'a');
        text.insert(at, 1, special);
        std::string out;
        JsonWriter(out).Text(text);
        BOOST_REQUIRE_EQUAL(Json::parse(out).get<std::string>(), text);
      }
    }
  }
  std::string out;
  JsonWriter(out).Text("\x01\x1f\"\\\n\r\t\xc3\xa9");
  BOOST_TEST(out == "\"\\u0001\\u001f\\\"\\\\\\n\\r\\t\xc3\xa9\"");
}

BOOST_AUTO_TEST_CASE(what_some_readers_take_for_a_lines_end_is_escaped_and_its_neighbours_are_not) {
  const auto written = [](const std::string& text) {
    std::string out;
    JsonWriter(out).Text(text);
    BOOST_TEST(Json::parse(out).get<std::string>() == text);
    return out;
  };
  BOOST_TEST(written("a\xe2\x80\xa8"
                     "b\xe2\x80\xa9") == "\"a\\u2028b\\u2029\"");
  BOOST_TEST(written("\x7f\xc2\x80\xc2\x85\xc2\x9f") == "\"\\u007f\\u0080\\u0085\\u009f\"");
  const std::string others = "\xc2\xa0\xe2\x80\xa7\xe2\x80\xaa\xe2\x82\xac\xc3\x85\xe3\x80\xa8";
  BOOST_TEST(written(others) == "\"" + others + "\"");
  for (size_t before = 0; before < 20; ++before) {
    const std::string text(before, 'x');
    BOOST_TEST(written(text + "\xe2\x80\xa8y") == "\"" + text + "\\u2028y\"");
  }
}

BOOST_AUTO_TEST_CASE(doubles_come_back_to_the_bit_and_are_as_short_as_can_be) {
  const auto text = [](double value) {
    std::string out;
    JsonWriter(out).Number(value);
    return out;
  };
  BOOST_TEST(text(0.1) == "0.1");
  BOOST_TEST(text(1) == "1");
  BOOST_TEST(text(-0.0) == "0");
  BOOST_TEST(text(1e300) == "1e+300");
  BOOST_TEST(text(std::nan("")) == "null");
  for (uint64_t i = 0; i < 10'000; ++i) {
    const double value = std::bit_cast<double>(RandomAt(1, i));
    if (std::isfinite(value)) BOOST_REQUIRE_EQUAL(Json::parse(text(value)).get<double>(), value);
  }
}

BOOST_AUTO_TEST_CASE(integers_are_written_to_their_limits) {
  std::string out;
  JsonWriter json(out);
  json.Integer(std::numeric_limits<int64_t>::min()).Raw(" ");
  json.Integer(std::numeric_limits<uint64_t>::max()).Raw(" ").Integer(-1).Raw(" ").Integer(0);
  BOOST_TEST(out == "-9223372036854775808 18446744073709551615 -1 0");
}

BOOST_AUTO_TEST_CASE(bad_bytes_are_found_and_replaced_part_by_part) {
  BOOST_TEST(IsUtf8(""));
  BOOST_TEST(FirstInvalidUtf8("ab") == 2u);
  BOOST_TEST(FirstInvalidUtf8("\xc3\xa9\xe2\x82") == 2u);
  BOOST_TEST(ReplaceInvalidUtf8("a\xff\xfe"
                                "b\xe2\x82",
                                "?") == "a??b?");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_examples_of_the_documentation_are_what_it_says) {
  std::ifstream file(NUDGE_SOURCE_DIR "/docs/EVENTS.md");
  int events = 0;
  int outcomes = 0;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(R"({"specversion")")) continue;
    if (line.find(R"("source":"nudge")") == line.npos) {
      const std::string encoded = EncodeEvent(Decoded(line));
      // What is signed stands there as it is signed.
      if (line.find("datacontenttype") != line.npos) BOOST_TEST(encoded == line);
      ++events;
      continue;
    }
    const Result<RecordedOutcome> recorded = DecodeOutcome(line);
    BOOST_TEST_REQUIRE(recorded.ok(), (recorded.ok() ? "" : recorded.error().message));
    const ChainedLine split = SplitChain(line);
    BOOST_TEST(split.encoded ==
               Encoded(recorded->outcome, OriginAt(recorded->partition, recorded->offset)));
    BOOST_TEST(split.chain == Hex(NextChain({}, recorded->offset, split.encoded)));
    ++outcomes;
  }
  BOOST_TEST(events == 3);
  BOOST_TEST(outcomes == 1);
}

// The fuzzer's own checks (tests/fuzz/codec_fuzz.cpp), which end the process where they fail.
BOOST_AUTO_TEST_CASE(every_fuzzing_seed_passes_the_fuzzers_checks) {
  size_t seeds = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(NUDGE_SOURCE_DIR "/tests/fuzz/seeds/codec")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    BOOST_TEST_REQUIRE(file.good() == true, entry.path());
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    ++seeds;
  }
  BOOST_TEST(seeds >= 20u);
}
