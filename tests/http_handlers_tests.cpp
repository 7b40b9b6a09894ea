// labels: unit
// What each path makes of a request, without sockets. Behind it stands a stand-in for the log.
#include <boost/test/unit_test.hpp>

#include <future>
#include <nlohmann/json.hpp>

#include "connectors/http/http_service.h"
#include "tests/http_door.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::StandInDoor;
using Json = nlohmann::json;

namespace {

struct Answer {
  unsigned status = 0;
  Json body;
  std::map<std::string, std::string> headers;
  std::string text;
};

// A service without keys; a plan's events go to the door, and its answer is made of what it tells.
class World {
 public:
  explicit World(HttpOptions options = {}) : service_(options, door, {}) {}

  Answer Send(HttpRequest request) {
    request.headers.try_emplace("host", "localhost");
    HttpServed served = service_.Take(request, {}, 1'700'000'000);
    was_errand = std::holds_alternative<HttpErrand>(served.handled);
    if (was_errand) {
      HttpErrandEnd end = std::get<HttpErrand>(served.handled).run();
      if (auto* plan = std::get_if<HttpPlan>(&end)) {
        served.handled = std::move(*plan);
      } else {
        served.handled = std::get<HttpResponse>(std::move(end));
      }
    }
    auto* plan = std::get_if<HttpPlan>(&served.handled);
    Answer answer = plan ? Follow(*plan) : AnswerOf(std::get<HttpResponse>(served.handled));
    ExpectKnown(request.path, answer.status);
    return answer;
  }

  Answer Post(const std::string& path, const std::string& body,
              std::map<std::string, std::string> headers = {}) {
    headers.try_emplace("content-type", "application/json");
    return Send({"POST", path, {}, std::move(headers), body});
  }
  Answer Get(const std::string& path) { return Send({"GET", path, {}, {}, ""}); }
  Answer Chat(const Json& body) { return Post("/v1/chat/completions", body.dump()); }

  StandInDoor door;
  bool was_errand = false;  // the last request was answered by a thread that may wait

 private:
  Answer Follow(HttpPlan& plan) {
    std::vector<HttpEnding> endings(plan.events.size());
    std::string streamed;
    for (size_t i = 0; i < plan.events.size(); ++i) {
      std::promise<void> done;
      const HttpPlan::Item& event = plan.events[i];
      door.Submit(event.tenant, event.json,
                  {[&, i](int64_t offset) {
                     endings[i].stored = true;
                     service_.Stored(plan.events[i], offset);
                     if (plan.stream) streamed += plan.stream->Begin().body;
                     if (!plan.waits) done.set_value();
                   },
                   [&](std::string_view text) {
                     if (plan.stream) streamed += plan.stream->Token(text);
                   },
                   [&, i](const std::string& line) {
                     if (!plan.waits) return;
                     endings[i].outcome = line;
                     done.set_value();
                   },
                   [&, i](const Error& error) {
                     endings[i].failure = error;
                     done.set_value();
                   },
                   [&, i](const Error& error) {
                     endings[i].doubt = error;
                     done.set_value();
                   }});
      done.get_future().wait();
    }
    if (plan.stream && endings[0].stored) {
      return {200, {}, {}, streamed + plan.stream->End(endings[0])};
    }
    return AnswerOf(plan.answer(endings));
  }

  // That the route's table, which openapi.json repeats, has the status.
  static void ExpectKnown(const std::string& path, unsigned status) {
    for (const Route& route : Routes()) {
      const size_t brace = route.path.find('{');
      if (path.substr(0, brace) != route.path.substr(0, brace)) continue;
      const auto& known = route.statuses;
      BOOST_TEST((std::find(known.begin(), known.end(), status) != known.end()),
                 path << " answers " << status);
    }
  }

  static Answer AnswerOf(const HttpResponse& response) {
    return {response.status,
            Json::parse(response.body, nullptr, false),
            {response.headers.begin(), response.headers.end()},
            response.body};
  }

  HttpService service_;
};

Json Question(const std::string& text) {
  return {{"model", "stand-in"}, {"messages", {{{"role", "user"}, {"content", text}}}}};
}

Json EventOf(const std::string& id, const std::string& type, const Json& data) {
  return {{"specversion", "1.0"}, {"id", id},         {"source", "/shop"},
          {"type", type},         {"tenant", "acme"}, {"data", data}};
}

Json QueryEvent(const std::string& id) {
  return EventOf(id, "nudge.query", {{"text", "How heavy is it?"}});
}

void ExpectError(const Answer& answer, unsigned status, const std::string& part) {
  BOOST_TEST(answer.status == status, answer.text);
  BOOST_REQUIRE(answer.body.contains("error"));
  const Json& error = answer.body["error"];
  BOOST_TEST(error["message"].get<std::string>().find(part) != std::string::npos, answer.text);
  for (const char* name : {"message", "type", "param", "code", "stage", "remedy"}) {
    BOOST_TEST(error.contains(name), name);
  }
}

}  // namespace

// ---- Chat ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_question_is_an_event_in_the_log_and_its_outcome_the_completion) {
  World world;
  Json body = Question("How heavy is it?");
  body.update({{"max_tokens", 12},
               {"temperature", 0.5},
               {"seed", 18446744073709551615ull},
               {"user", "ann"},
               {"nudge", {{"prompt_id", "short"}, {"tenant", "acme"}}}});
  const Answer answer = world.Chat(body);
  BOOST_REQUIRE(answer.status == 200);
  BOOST_TEST(answer.body["object"] == "chat.completion");
  BOOST_TEST(answer.body["created"] == 1'700'000'000);
  BOOST_TEST(answer.body["model"] == "stand-in");
  const Json& choice = answer.body["choices"][0];
  BOOST_TEST(choice["message"]["content"] == StandInDoor::AnswerTo("How heavy is it?"));
  BOOST_TEST(choice["message"]["role"] == "assistant");
  BOOST_TEST(choice["finish_reason"] == "stop");
  BOOST_TEST(answer.body["usage"]["total_tokens"] == 16);
  BOOST_TEST(answer.body["nudge"]["citations"][0]["document_id"] == "manual");
  BOOST_TEST(answer.body["nudge"]["adapter"]["version"] == 7);
  BOOST_TEST(answer.body["nudge"]["chain"].get<std::string>().size() == 64);
  const std::string id = answer.body["nudge"]["event_id"];
  BOOST_TEST(answer.body["id"] == id);
  BOOST_TEST(answer.headers.at("x-nudge-event-id") == id);
  BOOST_TEST(id.size() == 32);

  BOOST_REQUIRE(world.door.Log().size() == 1);
  const Event event = DecodeEvent(world.door.Log()[0]).value();
  BOOST_TEST(event.id == id);
  BOOST_TEST(event.tenant == "acme");
  BOOST_TEST(event.user == "ann");
  const auto& query = std::get<Query>(event.data);
  BOOST_TEST(query.text == "How heavy is it?");
  BOOST_TEST(query.options.max_tokens.value() == 12);
  BOOST_TEST(query.options.temperature.value() == 0.5);
  BOOST_TEST(query.options.seed.value() == 18446744073709551615ull);
  BOOST_TEST(query.options.prompt_id.value() == "short");
}

BOOST_AUTO_TEST_CASE(what_changes_nothing_is_accepted) {
  World world;
  Json body = Question("Hello?");
  body.update({{"n", 1},
               {"top_p", 1.0},
               {"frequency_penalty", 0},
               {"presence_penalty", 0.0},
               {"stop", nullptr},
               {"logprobs", false},
               {"tools", Json::array()},
               {"tool_choice", "auto"},
               {"response_format", {{"type", "text"}}},
               {"logit_bias", Json::object()},
               {"metadata", {{"a", "b"}}},
               {"stream", false},
               {"store", false},
               {"service_tier", "auto"},
               {"max_completion_tokens", 5}});
  BOOST_TEST(world.Chat(body).status == 200);
  body["messages"] = {
      {{"role", "system"}, {"content", ""}},
      {{"role", "user"},
       {"content", {{{"type", "text"}, {"text", "One"}}, {{"type", "text"}, {"text", "two"}}}}}};
  const Answer answer = world.Chat(body);
  BOOST_TEST(answer.body["choices"][0]["message"]["content"] == StandInDoor::AnswerTo("One\ntwo"),
             answer.text);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_done_is_refused_by_its_name_and_stores_nothing) {
  World world;
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"n", 2}}, "n"},
      {{{"top_p", 0.9}}, "top_p"},
      {{{"frequency_penalty", 1}}, "frequency_penalty"},
      {{{"presence_penalty", -1}}, "presence_penalty"},
      {{{"stop", "\n"}}, "stop"},
      {{{"stop", {"a"}}}, "stop"},
      {{{"tools", {{{"type", "function"}}}}}, "tools"},
      {{{"tool_choice", "required"}}, "tool_choice"},
      {{{"logprobs", true}}, "logprobs"},
      {{{"top_logprobs", 3}}, "top_logprobs"},
      {{{"response_format", {{"type", "json_object"}}}}, "response_format.type"},
      {{{"modalities", {"audio"}}}, "modalities.0"},
      {{{"max_tokens", -5}}, "max_tokens"},
      {{{"max_tokens", 0}}, "max_tokens"},
      {{{"max_tokens", 1.5}}, "max_tokens"},
      {{{"max_tokens", "12"}}, "max_tokens"},
      {{{"max_tokens", 100'000}}, "max_tokens"},
      {{{"temperature", 3}}, "temperature"},
      {{{"seed", -1}}, "seed"},
      {{{"stream", "yes"}}, "stream"},
      {{{"frobnicate", 1}}, "frobnicate"},
      {{{"nudge", {{"promt_id", "x"}}}}, "nudge.promt_id"},
  };
  for (const auto& [change, param] : cases) {
    Json body = Question("Hello?");
    body.update(change);
    const Answer answer = world.Chat(body);
    ExpectError(answer, 400, param);
    BOOST_TEST(answer.body["error"]["param"] == param, answer.text);
    BOOST_TEST(answer.body["error"]["type"] == "invalid_request_error");
  }
  BOOST_TEST(world.door.Log().empty());
}

BOOST_AUTO_TEST_CASE(messages_that_are_no_question_are_refused) {
  World world;
  const auto with = [&](const Json& messages) {
    return world.Chat({{"model", "stand-in"}, {"messages", messages}});
  };
  const auto message = [](const char* role, const Json& content) {
    return Json{{"role", role}, {"content", content}};
  };
  ExpectError(with(Json::array()), 400, "messages: empty");
  ExpectError(with("hello"), 400, "messages: expected an array");
  ExpectError(with(Json::array({message("assistant", "I am.")})), 400, "not the user's");
  ExpectError(with(Json::array({message("wizard", "Abra.")})), 400, "wizard");
  ExpectError(with(Json::array({message("user", "")})), 400, "content: empty");
  ExpectError(with(Json::array({message("system", "Be short."), message("user", "Hi?")})), 400,
              "no system message");
  ExpectError(with(Json::array({message(
                  "user", Json::array({{{"type", "image_url"}, {"image_url", {{"url", "x"}}}}}))})),
              400, "a part of type image_url is not read");
  ExpectError(world.Chat({{"messages", Json::array({message("user", "Hi?")})}}), 400,
              "model: missing");
  ExpectError(world.Chat({{"model", "stand-in"}}), 400, "messages: missing");
  Json unknown = Question("Hi?");
  unknown["model"] = "gpt-4o";
  ExpectError(world.Chat(unknown), 404, "gpt-4o");
  Json many = Json::array();
  for (int i = 0; i < 10'000; ++i) many.push_back(message("user", "Hi?"));
  ExpectError(with(many), 413, "10000 messages are over the limit of 1000");
  ExpectError(world.Chat(Question(std::string(9'000, 'a'))), 413, "limit of 8192");
  BOOST_TEST(world.door.Log().empty());
}

BOOST_AUTO_TEST_CASE(earlier_turns_go_into_the_event) {
  World world;
  Json body = {{"model", "stand-in"},
               {"messages",
                {{{"role", "user"}, {"content", "What is it?"}},
                 {{"role", "assistant"}, {"content", nullptr}},
                 {{"role", "assistant"}, {"content", {{{"type", "text"}, {"text", "A bike."}}}}},
                 {{"role", "user"}, {"content", "How heavy?"}}}},
               {"nudge", {{"conversation_id", "c-5"}}}};
  const Answer answer = world.Chat(body);
  BOOST_TEST(answer.status == 200, answer.text);
  BOOST_TEST(answer.body["choices"][0]["message"]["content"] ==
             StandInDoor::AnswerTo("How heavy?"));
  const Json data = Json::parse(world.door.Log().back())["data"];
  BOOST_TEST(data["text"] == "How heavy?");
  BOOST_TEST(data["conversation_id"] == "c-5");
  BOOST_TEST(data["messages"] == (Json{{{"role", "user"}, {"content", "What is it?"}},
                                       {{"role", "assistant"}, {"content", "A bike."}}}));
}

BOOST_AUTO_TEST_CASE(a_conversation_over_the_limits_of_an_event_is_refused) {
  World world;
  Json body = Question("Hi?");
  Json& messages = body["messages"];
  messages = Json::array();
  for (int i = 0; i < 258; ++i) messages.push_back({{"role", "user"}, {"content", "Hi?"}});
  const Answer refused = world.Chat(body);
  ExpectError(refused, 413, "257 messages are over the limit of 256");
  BOOST_TEST(refused.body["error"]["param"] == "messages");
  BOOST_TEST(world.door.Log().empty());
}

namespace {

// The data of each server-sent event; [DONE] as a text.
std::vector<Json> EventsOf(const std::string& stream) {
  std::vector<Json> events;
  for (size_t begin = 0; begin < stream.size();) {
    const size_t end = stream.find("\n\n", begin);
    BOOST_REQUIRE(end != std::string::npos);
    const std::string event = stream.substr(begin, end - begin);
    begin = end + 2;
    BOOST_REQUIRE(event.starts_with("data: "));
    const std::string data = event.substr(6);
    events.push_back(data == "[DONE]" ? Json(data) : Json::parse(data));
  }
  return events;
}

std::string ContentOf(const std::vector<Json>& events) {
  std::string text;
  for (const Json& event : events) {
    if (!event.is_object() || event["choices"].empty()) continue;
    text += event["choices"][0]["delta"].value("content", "");
  }
  return text;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_stream_ends_with_the_committed_outcome) {
  World world;
  Json body = Question("Hello?");
  body.update({{"stream", true}, {"stream_options", {{"include_usage", true}}}});
  const std::string whole = StandInDoor::AnswerTo("Hello?");
  for (const auto& tokens : std::vector<std::vector<std::string>>{
           {}, {"You ", "asked"}, {whole}, {"", "You asked: Hello?"}}) {
    world.door.Stream(tokens);
    const auto events = EventsOf(world.Chat(body).text);
    BOOST_REQUIRE(events.size() >= 4);
    BOOST_TEST(events[0]["object"] == "chat.completion.chunk");
    BOOST_TEST(events[0]["choices"][0]["delta"]["role"] == "assistant");
    BOOST_TEST(ContentOf(events) == whole);
    const Json& last = events[events.size() - 3];
    BOOST_TEST(last["choices"][0]["finish_reason"] == "stop");
    BOOST_TEST(!last["nudge"].contains("streamed_differs"));
    BOOST_TEST(last["nudge"]["chain"].get<std::string>().size() == 64);
    BOOST_TEST(events[events.size() - 2]["usage"]["total_tokens"] == 16);
    BOOST_TEST(events.back() == "[DONE]");
  }
}

BOOST_AUTO_TEST_CASE(a_stream_that_differs_from_what_was_committed_says_so) {
  World world;
  world.door.Stream({"You said"});
  Json body = Question("Hello?");
  body["stream"] = true;
  const auto events = EventsOf(world.Chat(body).text);
  const Json& last = events[events.size() - 2];
  BOOST_TEST(last["nudge"]["streamed_differs"] == true);
  BOOST_TEST(last["nudge"]["text"] == StandInDoor::AnswerTo("Hello?"));
}

BOOST_AUTO_TEST_CASE(a_question_that_is_sent_again_gets_its_first_answer) {
  World world;
  const auto ask = [&](const std::string& text) {
    return world.Post("/v1/chat/completions", Question(text).dump(),
                      {{"idempotency-key", "order 7/ä"}});
  };
  const Answer first = ask("Hello?");
  BOOST_TEST(first.status == 200, first.text);
  BOOST_TEST(first.headers.at("x-nudge-event-id") == "order%207%2F%C3%A4");
  const Answer second = ask("Hello?");
  BOOST_TEST(second.text == first.text);
  ExpectError(ask("Something else?"), 409, "another content");
  const Answer outcome = world.Get("/v1/outcomes/order%207%2F%C3%A4");
  BOOST_TEST(outcome.status == 200, outcome.text);
  BOOST_TEST(outcome.body["data"]["text"] == StandInDoor::AnswerTo("Hello?"));
}

BOOST_AUTO_TEST_CASE(an_event_that_is_not_stored_is_an_error_and_the_client_may_send_it_again) {
  World world;
  world.door.Fail(Error{Code::kUnavailable, "the disk is full", "make room"});
  const Answer answer = world.Chat(Question("Hello?"));
  ExpectError(answer, 503, "the disk is full");
  BOOST_TEST(answer.body["error"]["remedy"] == "make room");
  BOOST_TEST(answer.headers.contains("Retry-After"));
  world.door.Fail(Error{Code::kBusy, "too many events wait", "send it again later"});
  const Answer busy = world.Chat(Question("Hello?"));
  ExpectError(busy, 429, "too many events wait");
  BOOST_TEST(busy.headers.contains("Retry-After"));
  world.door.Fail(Error{Code::kUnavailable, "the disk is full", "make room"});
  Json body = Question("Hello?");
  body["stream"] = true;
  ExpectError(world.Chat(body), 503, "the disk is full");
}

// ---- Events and outcomes ------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_event_in_structured_mode_gets_its_outcome) {
  World world;
  for (const char* type : {"application/cloudevents+json", "application/json",
                           "Application/CloudEvents+JSON; charset=utf-8"}) {
    const std::string id = std::string("q-") + type;
    const Answer answer =
        world.Post("/v1/events", QueryEvent(id).dump(2), {{"content-type", type}});
    BOOST_TEST(answer.status == 200, answer.text);
    BOOST_TEST(answer.body["type"] == "nudge.response");
    BOOST_TEST(answer.body["data"]["event"]["id"] == id);
  }
  for (const std::string& line : world.door.Log()) {
    BOOST_TEST(line.find('\n') == std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(id_source_and_tenant_may_be_left_to_the_door) {
  World world;
  const std::string body =
      R"({"specversion":"1.0","type":"nudge.query","id":null,"data":{"text":"Hello?"}})";
  const Answer answer = world.Post("/v1/events", body, {{"x-nudge-tenant", "acme"}});
  BOOST_TEST(answer.status == 200, answer.text);
  BOOST_TEST(answer.body["tenant"] == "acme");
  BOOST_TEST(answer.body["data"]["event"]["source"] == "/http");
  BOOST_TEST(world.Post("/v1/events", body).body["tenant"] == "default");
  Json two = QueryEvent("q");
  ExpectError(world.Post("/v1/events", two.dump(), {{"x-nudge-tenant", "other"}}), 400,
              "different tenants");
}

BOOST_AUTO_TEST_CASE(an_event_in_binary_mode_is_the_same_event) {
  World world;
  const Answer answer = world.Post("/v1/events", R"({"text":"Hello?"})",
                                   {{"ce-specversion", "1.0"},
                                    {"ce-id", "caf%C3%A9"},
                                    {"ce-source", "/shop"},
                                    {"ce-type", "nudge.query"},
                                    {"ce-tenant", "acme"},
                                    {"ce-user", "ann"},
                                    {"ce-time", "2026-01-01T00:00:00Z"}});
  BOOST_TEST(answer.status == 200, answer.text);
  const Event event = DecodeEvent(world.door.Log().at(0)).value();
  BOOST_TEST(event.id == "café");
  BOOST_TEST(event.user == "ann");
  BOOST_TEST(event.time == "2026-01-01T00:00:00Z");
  BOOST_TEST(std::get<Query>(event.data).text == "Hello?");
}

BOOST_AUTO_TEST_CASE(a_batch_is_taken_as_a_whole_or_not_at_all) {
  World world;
  const std::map<std::string, std::string> type = {
      {"content-type", "application/cloudevents-batch+json"}};
  const Answer answer =
      world.Post("/v1/events", Json{QueryEvent("a"), QueryEvent("b")}.dump(), type);
  BOOST_TEST(answer.status == 200, answer.text);
  BOOST_TEST(answer.body.size() == 2);
  BOOST_TEST(answer.body[1]["data"]["event"]["id"] == "b");
  Json wrong = QueryEvent("d");
  wrong["data"] = {{"text", 7}};
  ExpectError(world.Post("/v1/events", Json{QueryEvent("c"), wrong}.dump(), type), 400,
              "event 1: data.text");
  ExpectError(world.Post("/v1/events", "[]", type), 400, "batch: empty");
  ExpectError(world.Post("/v1/events", "[7]", type), 400, "batch.0: expected an object");
  ExpectError(world.Post("/v1/events", Json(std::vector<Json>(101, QueryEvent("e"))).dump(), type),
              413, "101 events");
  ExpectError(world.Post("/v1/events", Json{QueryEvent("a")}.dump()), 400, "one JSON object");
  BOOST_TEST(world.door.Log().size() == 2);
}

BOOST_AUTO_TEST_CASE(whoever_does_not_wait_is_told_where_the_outcome_will_be) {
  World world;
  world.door.Withhold(true);
  const Answer taken =
      world.Post("/v1/events", QueryEvent("q 1").dump(), {{"prefer", "respond-async"}});
  BOOST_TEST(taken.status == 202, taken.text);
  BOOST_TEST(taken.body["event_id"] == "q 1");
  BOOST_TEST(taken.headers.at("Location") == "/v1/outcomes/q%201");
  const auto get = [&](const std::string& id) {
    return world.Send({"GET", "/v1/outcomes/" + id, {{"tenant", "acme"}}, {}, ""});
  };
  BOOST_TEST(get("q%201").status == 202);
  ExpectError(get("q-2"), 404, "no outcome of q-2");
  world.door.Withhold(false);
  world.Post("/v1/events", QueryEvent("q-3").dump());
  BOOST_TEST(get("q-3").body["type"] == "nudge.response");
}

BOOST_AUTO_TEST_CASE(an_outcome_that_is_not_held_any_more_is_not_said_to_come) {
  World world;
  const auto get = [&](const std::string& id) {
    return world.Send({"GET", "/v1/outcomes/" + id, {{"tenant", "acme"}}, {}, ""});
  };
  for (const char* id : {"q-1", "q-2"}) world.Post("/v1/events", QueryEvent(id).dump());
  ExpectError(get("q-3"), 404, "no outcome of q-3 is among the newest 2 that are held here");
  world.door.DropOutcomes();
  ExpectError(get("q-1"), 404, "no outcome of q-1 is among the newest 0 that are held here");
}

BOOST_AUTO_TEST_CASE(an_event_of_which_nobody_knows_whether_it_is_stored_is_to_be_sent_again) {
  World world;
  world.door.Doubt(Error{Code::kUnavailable, "the event may have been stored: no word", ""});
  const Answer event = world.Post("/v1/events", QueryEvent("q-1").dump());
  ExpectError(event, 504, "may have been stored");
  BOOST_TEST(event.body["error"]["code"] == "not_known_stored");
  BOOST_TEST(event.headers.contains("Retry-After"));
  ExpectError(world.Chat(Question("Hello?")), 504, "may have been stored");
  const Answer batch = world.Post("/v1/events", Json{QueryEvent("a"), QueryEvent("b")}.dump(),
                                  {{"content-type", "application/cloudevents-batch+json"}});
  BOOST_TEST(batch.status == 503);
  BOOST_TEST(batch.body["events"][0]["state"] == "not known");
  BOOST_TEST(batch.body["events"][1]["message"] == "the event may have been stored: no word");
}

BOOST_AUTO_TEST_CASE(a_door_without_state_says_where_lessons_and_snapshots_are) {
  World world;
  world.door.HaveNoState({Code::kUnavailable, "they are elsewhere", "ask there"});
  for (const char* path : {"/v1/lessons", "/v1/adapters/acme", "/v1/adapters/acme/events",
                           "/v1/adapters/acme/1/adapter.gguf"}) {
    const Answer answer = world.Get(path);
    ExpectError(answer, 501, "they are elsewhere");
    BOOST_TEST(answer.body["error"]["remedy"] == "ask there");
  }
}

BOOST_AUTO_TEST_CASE(what_was_forgotten_is_said_to_be_gone) {
  World world;
  world.Post("/v1/events", QueryEvent("q-1").dump());
  const auto get = [&] {
    return world.Send({"GET", "/v1/outcomes/q-1", {{"tenant", "acme"}}, {}, ""});
  };
  BOOST_TEST(get().status == 200);
  world.door.Erase("acme", "q-1");
  ExpectError(get(), 410, "the outcome of q-1 was erased");
  const std::map<std::string, std::string> named{{"x-nudge-event-id", "chat-1"}};
  const Answer first = world.Post("/v1/chat/completions", Question("Hello?").dump(), named);
  BOOST_TEST(first.status == 200, first.text);
  world.door.Erase("default", "chat-1");
  const Answer again = world.Post("/v1/chat/completions", Question("Hello?").dump(), named);
  ExpectError(again, 409, "no answer is on record");
}

BOOST_AUTO_TEST_CASE(an_event_that_is_wrong_is_refused_with_its_path_and_stores_nothing) {
  World world;
  const auto post = [&](const std::string& body) { return world.Post("/v1/events", body); };
  ExpectError(post(""), 400, "");
  ExpectError(post("{"), 400, "");
  ExpectError(post("\"text\""), 400, "event: expected one JSON object");
  ExpectError(post("{\"id\":\"\xff\"}"), 400, "");
  BOOST_TEST(post("{\"id\":\"\xff\"}").body["error"]["code"] == "invalid_utf8");
  ExpectError(post("{}"), 400, "specversion: missing");
  Json event = QueryEvent("q");
  event["type"] = "nudge.nonsense";
  ExpectError(post(event.dump()), 400, "nudge.nonsense");
  event = QueryEvent("q");
  event["data"]["txt"] = "x";
  ExpectError(post(event.dump()), 400, "data.txt");
  ExpectError(post(R"({"id":"a","id":"b"})"), 400, "id: given twice");
  ExpectError(
      post(R"({"specversion":"1.0","id":"a","source":"s","type":"nudge.query","tenant":"t",)"
           R"("data":{"text":"a","text":"b"}})"),
      400, "data.text");
  ExpectError(world.Post("/v1/events", "<a/>", {{"content-type", "text/xml"}}), 415, "text/xml");
  BOOST_TEST(world.door.Log().empty());
}

// ---- Feedback, documents, models ----------------------------------------------------------------

BOOST_AUTO_TEST_CASE(feedback_in_plain_words_is_an_event_about_the_answer) {
  World world;
  const std::string id = world.Chat(Question("Hello?")).body["id"];
  const Answer answer = world.Post(
      "/v1/feedback",
      Json{{"answer_id", id}, {"rating", "down"}, {"correction", "Hi."}, {"comment", "Too long."}}
          .dump());
  BOOST_TEST(answer.status == 200, answer.text);
  BOOST_TEST(answer.body["summary"] == "taken");
  const Event event = DecodeEvent(world.door.Log().at(1)).value();
  const auto& feedback = std::get<Feedback>(event.data);
  BOOST_TEST(feedback.query_id == id);
  BOOST_TEST(feedback.rating.value() == -1);
  BOOST_TEST(feedback.correction.value() == "Hi.");
  BOOST_TEST(feedback.comment == "Too long.");

  const auto post = [&](const Json& body) { return world.Post("/v1/feedback", body.dump()); };
  ExpectError(post({{"rating", "up"}}), 400, "answer_id: missing");
  ExpectError(post({{"answer_id", id}}), 400, "none of rating");
  ExpectError(post({{"answer_id", id}, {"rating", 5}}), 400, "rating: 5 is outside -1..1");
  ExpectError(post({{"answer_id", id}, {"rating", nullptr}, {"correction", "Hi."}}), 400, "rating");
  ExpectError(post({{"answer_id", id}, {"ratng", "up"}}), 400, "ratng: unknown");
  ExpectError(post({{"answer_id", "nobody"}, {"rating", "up"}}), 404, "no such question");
  BOOST_TEST(world.door.Log().size() == 3);
}

BOOST_AUTO_TEST_CASE(documents_come_as_json_or_as_text) {
  World world;
  const Answer json = world.Post(
      "/v1/documents",
      Json{{"document_id", "a"}, {"text", "A."}, {"title", "T"}, {"metadata", {{"k", 3}}}}.dump());
  BOOST_TEST(json.status == 200, json.text);
  HttpRequest text{"POST",
                   "/v1/documents",
                   {{"document_id", "b"}, {"title", "B"}},
                   {{"content-type", "text/markdown; charset=utf-8"}},
                   "# Bee\n\nBuzz."};
  BOOST_TEST(world.Send(text).status == 200);
  const auto log = world.door.Log();
  BOOST_REQUIRE(log.size() == 2);
  const auto first = std::get<DocumentUpsert>(DecodeEvent(log[0]).value().data);
  BOOST_TEST((first.metadata.at("k") == MetadataValue(3.0)));
  const auto second = std::get<DocumentUpsert>(DecodeEvent(log[1]).value().data);
  BOOST_TEST(second.document_id == "b");
  BOOST_TEST(second.title == "B");
  BOOST_TEST(second.text == "# Bee\n\nBuzz.");

  text.query.clear();
  ExpectError(world.Send(text), 400, "document_id");
  text.body = "\xc3(";
  ExpectError(world.Send(text), 400, "not UTF-8 from byte 0");
  for (const char* type : {"application/pdf", "multipart/form-data; boundary=x"}) {
    const Answer refused = world.Post("/v1/documents", "x", {{"content-type", type}});
    ExpectError(refused, 415, "is not read");
    BOOST_TEST(!refused.body["error"]["remedy"].get<std::string>().empty());
  }
  ExpectError(world.Post("/v1/documents", R"({"document_id":"c"})"), 400, "text");
  ExpectError(world.Post("/v1/documents",
                         Json{{"document_id", "c"}, {"text", std::string(300'000, 'a')}}.dump()),
              413, "limit of 262144");
}

// A PDF is whatever this reads: what a real converter makes of one is in pdf_text_tests.
BOOST_AUTO_TEST_CASE(of_a_pdf_the_log_has_its_text_and_digest_where_there_is_a_converter) {
  HttpOptions options;
  options.pdf_converter = "/usr/bin/tr a-z A-Z";
  options.body_bytes_max = 1000;
  World world(options);
  HttpRequest pdf{"POST",
                  "/v1/documents",
                  {{"document_id", "heron"}, {"title", "The Heron"}},
                  {{"content-type", "application/pdf"}},
                  "a heron"};
  const Answer stored = world.Send(pdf);
  BOOST_TEST(stored.status == 200, stored.text);
  BOOST_TEST(world.was_errand);
  BOOST_REQUIRE(world.door.Log().size() == 1);
  const auto document = std::get<DocumentUpsert>(DecodeEvent(world.door.Log()[0]).value().data);
  BOOST_TEST(document.title == "The Heron");
  BOOST_TEST(document.text == "A HERON");
  BOOST_TEST(std::get<std::string>(document.metadata.at("media_type")) == "application/pdf");
  BOOST_TEST(std::get<std::string>(document.metadata.at("sha256")) == Sha256Hex("a heron"));

  pdf.body = " \f\n";
  ExpectError(world.Send(pdf), 400, "the PDF has no text");
  pdf.body = "\xc3(";
  ExpectError(world.Send(pdf), 400, "not UTF-8");
  pdf.body = std::string(1001, 'a');
  ExpectError(world.Send(pdf), 413, "gave more than 1000 bytes");
  pdf.body = "a heron";
  pdf.query.clear();
  ExpectError(world.Send(pdf), 400, "document_id");
  BOOST_TEST(!world.was_errand);  // refused before anything is read

  options.pdf_converter = "/usr/bin/false";
  World other(options);
  pdf.query["document_id"] = "heron";
  const Answer unread = other.Send(pdf);
  ExpectError(unread, 400, "ended with exit code 1");
  BOOST_TEST(unread.body["error"]["code"] == "unreadable_pdf");
}

BOOST_AUTO_TEST_CASE(a_long_page_is_read_by_a_thread_that_may_take_long) {
  World world;
  HttpRequest page{"POST",
                   "/v1/documents",
                   {{"document_id", "long"}},
                   {{"content-type", "text/html"}},
                   "<p>short"};
  BOOST_TEST(world.Send(page).status == 200);
  BOOST_TEST(!world.was_errand);
  page.body = "<p>long<!--" + std::string(100'000, 'x') + "-->";
  page.headers["x-nudge-event-id"] = "long";
  BOOST_TEST(world.Send(page).status == 200);
  BOOST_TEST(world.was_errand);
  BOOST_TEST(std::get<DocumentUpsert>(DecodeEvent(world.door.Log()[1]).value().data).text ==
             "long");
}

BOOST_AUTO_TEST_CASE(of_a_page_the_log_has_what_people_read_and_its_digest) {
  World world;
  HttpRequest page{"POST",
                   "/v1/documents",
                   {{"document_id", "heron"}},
                   {{"content-type", "text/html; charset=utf-8"}},
                   "<title>The Heron</title><script>steal()</script><p>It weighs <b>13.6</b> kg."};
  BOOST_TEST(world.Send(page).status == 200);
  BOOST_REQUIRE(world.door.Log().size() == 1);
  const auto document = std::get<DocumentUpsert>(DecodeEvent(world.door.Log()[0]).value().data);
  BOOST_TEST(document.document_id == "heron");
  BOOST_TEST(document.title == "The Heron");
  BOOST_TEST(document.text == "It weighs 13.6 kg.");
  BOOST_TEST(std::get<std::string>(document.metadata.at("media_type")) == "text/html");
  BOOST_TEST(std::get<std::string>(document.metadata.at("sha256")) == Sha256Hex(page.body));

  page.query["title"] = "Given";
  page.headers["x-nudge-event-id"] = "again";
  BOOST_TEST(world.Send(page).status == 200);
  BOOST_TEST(std::get<DocumentUpsert>(DecodeEvent(world.door.Log()[1]).value().data).title ==
             "Given");
  page.body = "<script>let x = 1;</script>";
  ExpectError(world.Send(page), 400, "shows no text");
  page.body = "\xc3(";
  ExpectError(world.Send(page), 400, "not UTF-8 from byte 0");
  page.body.clear();
  for (int i = 0; i < 2'000; ++i) page.body += "<div>";
  ExpectError(world.Send(page), 413, "nests more than 512");
}

BOOST_AUTO_TEST_CASE(models_are_those_of_the_door) {
  World world;
  const Answer answer = world.Get("/v1/models");
  BOOST_TEST(answer.body["object"] == "list");
  BOOST_TEST(answer.body["data"][0]["id"] == "stand-in");
}

BOOST_AUTO_TEST_CASE(the_page_is_served_as_it_stands_in_the_sources) {
  World world;
  const auto source = [](const std::string& path) {
    return nudge::testing::FileBytes(std::string(NUDGE_SOURCE_DIR) + "/connectors/" + path);
  };
  for (const auto& [path, file] :
       std::map<std::string, std::string>{{"/", "web/index.html"},
                                          {"/page.js", "web/page.js"},
                                          {"/lessons.js", "web/lessons.js"},
                                          {"/page.css", "web/page.css"},
                                          {"/openapi.json", "http/openapi.json"}}) {
    const Answer answer = world.Get(path);
    BOOST_TEST(answer.status == 200);
    BOOST_TEST((answer.text == source(file) && !answer.text.empty()), file);
  }
  const std::string policy = world.Get("/").headers.at("Content-Security-Policy");
  BOOST_TEST(policy.starts_with("default-src 'none'"));
  // Nothing of the page comes from elsewhere, and nothing is set as HTML.
  for (const char* file : {"web/index.html", "web/page.js", "web/lessons.js", "web/page.css"}) {
    for (const char* foreign : {"http://", "https://", "innerHTML", "insertAdjacent", "eval("}) {
      BOOST_TEST(source(file).find(foreign) == std::string::npos, file << ": " << foreign);
    }
  }
}
