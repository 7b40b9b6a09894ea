// labels: unit graph
// The HTTP server over real sockets: good clients, slow ones, wrong ones, and those that go away.
// Behind it stands a stand-in for the log.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "connectors/http/http_server.h"
#include "connectors/http/http_service.h"
#include "connectors/http/keys.h"
#include "tests/http_client.h"
#include "tests/http_door.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;
using std::chrono::milliseconds;

namespace {

HttpOptions Patient() {
  HttpOptions options;
  options.port = 0;
  return options;
}

const std::string kModels = Request("GET", "/v1/models");

std::string ChatBody(bool stream = false) {
  return Json{{"model", "stand-in"},
              {"stream", stream},
              {"messages", {{{"role", "user"}, {"content", "Hello?"}}}}}
      .dump();
}

std::string CodeOf(const Reply& reply) {
  const Json body = Json::parse(reply.body, nullptr, false);
  return body.is_object() ? body["error"].value("code", "") : "";
}

// Whether the server still does its work.
void ExpectServing(const HttpServer& server) {
  BOOST_TEST(Call(server.port(), kModels).status == 200);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_connection_serves_request_after_request) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  Connection connection(server.port());
  for (int i = 0; i < 3; ++i) {
    connection.Send(Request("POST", "/v1/chat/completions", ChatBody()));
    const Reply reply = connection.Receive();
    BOOST_TEST(reply.status == 200, reply.body);
    BOOST_TEST(Json::parse(reply.body)["choices"][0]["message"]["content"] ==
               StandInDoor::AnswerTo("Hello?"));
    connection.Send(Request("POST", "/v1/chat/completions", ChatBody(true)));
    const Reply stream = connection.Receive();
    BOOST_TEST(stream.headers.at("Content-Type") == "text/event-stream; charset=utf-8");
    BOOST_TEST(stream.body.ends_with("data: [DONE]\n\n"), stream.body);
  }
  connection.Send(kModels + kModels);  // one ahead
  BOOST_TEST(connection.Receive().status == 200);
  BOOST_TEST(connection.Receive().status == 200);
  connection.Send(Request("GET", "/healthz", "", "Connection: close\r\n"));
  BOOST_TEST(connection.Receive().body == "alive\n");
  BOOST_TEST(connection.ReadToEnd() == "");
}

BOOST_AUTO_TEST_CASE(answers_are_counted_by_path_and_status) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.body_bytes_max = 1'000;
  const HttpServer server(options, door);
  const auto ask = [&](const std::string& request) { return Call(server.port(), request).status; };
  for (int i = 0; i < 2; ++i) BOOST_TEST(ask(kModels) == 200);
  BOOST_TEST(ask(Request("GET", "/v1/outcomes/never")) == 404);
  BOOST_TEST(ask(Request("POST", "/v1/chat/completions", ChatBody(true))) == 200);
  BOOST_TEST(ask(Request("POST", "/v1/chat/completions", std::string(2'000, ' '))) == 413);
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(ask(Request("GET", "/made-up-" + std::to_string(i))) == 404);
  }
  BOOST_TEST(ask(Request("DELETE", "/v1/models")) == 405);
  const HttpCounts counts = server.counts();
  std::map<std::string, std::string> found;
  for (const HttpCounts::Route& route : counts.routes) {
    for (size_t i = 0; i < route.answers.size(); ++i) {
      if (route.answers[i] == 0) continue;
      found[route.name] +=
          std::string(HttpCounts::kClasses[i]) + " " + std::to_string(route.answers[i]);
    }
  }
  const std::map<std::string, std::string> expected = {{"GET /v1/models", "2xx 2"},
                                                       {"GET /v1/outcomes/{id}", "4xx 1"},
                                                       {"POST /v1/chat/completions", "2xx 1"},
                                                       {"other", "4xx 5"}};
  BOOST_TEST((found == expected));
  BOOST_TEST(counts.routes.size() == Routes().size() + 1);  // whatever anybody asks for
  BOOST_TEST((counts.refusals == std::array<uint64_t, 3>{1, 0, 0}));
}

BOOST_AUTO_TEST_CASE(a_client_of_http_1_0_gets_a_stream_that_ends_with_its_connection) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  std::string request = Request("POST", "/v1/chat/completions", ChatBody(true));
  request.replace(request.find("HTTP/1.1"), 8, "HTTP/1.0");
  Connection connection(server.port());
  connection.Send(request);
  const std::string all = connection.ReadToEnd();
  BOOST_TEST(all.find("Transfer-Encoding") == std::string::npos, all);
  BOOST_TEST(all.ends_with("data: [DONE]\n\n"), all);
}

BOOST_AUTO_TEST_CASE(head_has_the_length_and_no_body) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  Connection connection(server.port());
  connection.Send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + kModels);
  const std::string head = connection.ReadTo("\r\n\r\n");
  BOOST_TEST(head.find("Content-Length: 6\r\n") != std::string::npos, head);
  BOOST_TEST(connection.Receive().status == 200);
}

BOOST_AUTO_TEST_CASE(whoever_expects_a_leave_to_go_on_gets_it) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  Connection connection(server.port());
  const std::string request =
      Request("POST", "/v1/chat/completions", ChatBody(), "Expect: 100-continue\r\n");
  const size_t body = request.find("\r\n\r\n") + 4;
  connection.Send(request.substr(0, body));
  BOOST_TEST(connection.ReadTo("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  connection.Send(request.substr(body));
  BOOST_TEST(connection.Receive().status == 200);
}

BOOST_AUTO_TEST_CASE(a_head_that_comes_too_slowly_is_cut_off) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.header_timeout = milliseconds(150);
  const HttpServer server(options, door);
  Connection connection(server.port());
  connection.Send("GET /v1/models HTTP/1.1\r\n");
  for (int i = 0; i < 60; ++i) {  // drop by drop
    if (!connection.Send("X-Drop: a\r\n")) break;
    std::this_thread::sleep_for(milliseconds(10));
  }
  const Reply reply = connection.Receive();
  BOOST_TEST(reply.status == 408);
  BOOST_TEST(CodeOf(reply) == "too_slow");
  BOOST_TEST(reply.headers.at("Connection") == "close");
  ExpectServing(server);
}

BOOST_AUTO_TEST_CASE(a_body_that_does_not_come_is_cut_off_and_stores_nothing) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.body_timeout = milliseconds(100);
  const HttpServer server(options, door);
  const std::string request = Request("POST", "/v1/chat/completions", ChatBody());
  Connection waits(server.port());
  waits.Send(request.substr(0, request.size() - 5));
  BOOST_TEST(waits.Receive().status == 408);
  Connection ends(server.port());
  ends.Send(request.substr(0, request.size() - 5));
  ends.EndSending();
  const Reply reply = ends.Receive();
  BOOST_TEST(reply.status == 400);
  BOOST_TEST(CodeOf(reply) == "half_a_request");
  BOOST_TEST(door.Log().empty());
  ExpectServing(server);
}

BOOST_AUTO_TEST_CASE(a_connection_that_says_nothing_is_closed) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.idle_timeout = milliseconds(50);
  const HttpServer server(options, door);
  Connection silent(server.port());
  BOOST_TEST(silent.ReadToEnd() == "");
  Connection once(server.port());
  once.Send(kModels);
  BOOST_TEST(once.Receive().status == 200);
  BOOST_TEST(once.ReadToEnd() == "");
}

BOOST_AUTO_TEST_CASE(what_is_too_large_is_refused_before_it_is_read) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.body_bytes_max = 1 << 10;
  options.header_bytes_max = 1 << 10;
  const HttpServer server(options, door);
  const std::string body(1 << 20, 'a');
  Connection whole(server.port());
  BOOST_TEST(whole.Send(Request("POST", "/v1/events", body)));
  const Reply reply = whole.Receive();
  BOOST_TEST(reply.status == 413);
  BOOST_TEST(CodeOf(reply) == "too_large");
  Connection chunked(server.port());
  chunked.Send("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
               std::string("8000\r\n") + std::string(0x8000, 'a') + "\r\n0\r\n\r\n");
  BOOST_TEST(chunked.Receive().status == 413);
  const Reply head = Call(
      server.port(), Request("GET", "/healthz", "", "X-Long: " + std::string(5'000, 'a') + "\r\n"));
  BOOST_TEST(head.status == 431);
  ExpectServing(server);
}

BOOST_AUTO_TEST_CASE(what_is_no_request_is_refused) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  for (const std::string& nonsense :
       {std::string("\x16\x03\x01 TLS, say\r\n\r\n"), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("POST /v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n")}) {
    BOOST_TEST(Call(server.port(), nonsense).status == 400, nonsense);
  }
  const Reply utf8 = Call(server.port(), Request("POST", "/v1/events", "{\"id\":\"\xff\"}"));
  BOOST_TEST(utf8.status == 400);
  BOOST_TEST(CodeOf(utf8) == "invalid_utf8");
  ExpectServing(server);
}

BOOST_AUTO_TEST_CASE(an_outcome_that_takes_long_is_left_at_its_place) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.answer_timeout = milliseconds(100);
  const HttpServer server(options, door);
  door.Withhold(true);
  Connection connection(server.port());
  connection.Send(Request("POST", "/v1/chat/completions", ChatBody()));
  const Reply late = connection.Receive();
  BOOST_TEST(late.status == 202);
  BOOST_TEST(Call(server.port(), Request("GET", late.headers.at("Location"))).status == 202);
  connection.Send(Request("POST", "/v1/chat/completions", ChatBody(true)));
  const Reply stream = connection.Receive();
  BOOST_TEST(stream.body.find("no_outcome_yet") != std::string::npos, stream.body);
  BOOST_TEST(stream.body.find("[DONE]") == std::string::npos, stream.body);
  connection.Send(kModels);  // the connection is still good
  BOOST_TEST(connection.Receive().status == 200);
  // A log that does not know says so at once.
  door.Doubt(Error{Code::kUnavailable, "perhaps", ""});
  for (const bool streams : {false, true}) {
    connection.Send(Request("POST", "/v1/chat/completions", ChatBody(streams)));
    const Reply unknown = connection.Receive();
    BOOST_TEST(unknown.status == 504);
    BOOST_TEST(CodeOf(unknown) == "not_known_stored");
  }
  door.Doubt(std::nullopt);
  // A log that says nothing at all: nobody claims that the event is stored.
  door.Stall(true);
  connection.Send(Request("POST", "/v1/chat/completions", ChatBody()));
  BOOST_TEST(CodeOf(connection.Receive()) == "not_known_stored");
}

BOOST_AUTO_TEST_CASE(a_client_that_goes_away_cancels_nothing) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  door.Stall(true);
  for (const bool stream : {false, true}) {
    Connection connection(server.port());
    connection.Send(Request("POST", "/v1/chat/completions", ChatBody(stream),
                            std::string("x-nudge-event-id: q-") + (stream ? "1" : "0") + "\r\n"));
    std::this_thread::sleep_for(milliseconds(50));
  }
  door.Stall(false);
  for (const char* id : {"q-0", "q-1"}) {
    Reply reply;
    for (int i = 0; i < 600 && reply.status != 200; ++i) {
      reply = Call(server.port(), Request("GET", std::string("/v1/outcomes/") + id));
      if (reply.status != 200) std::this_thread::sleep_for(milliseconds(10));
    }
    BOOST_TEST(reply.status == 200, id << ": " << reply.body);
  }
  BOOST_TEST(door.Log().size() == 2);
}

BOOST_AUTO_TEST_CASE(a_disk_that_does_not_answer_holds_nobody_for_ever_and_no_other_request) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.answer_timeout = milliseconds(100);
  auto server = std::make_unique<HttpServer>(options, door);
  door.HoldDisk(true);
  Connection waits(server->port());
  waits.Send(Request("GET", "/v1/lessons"));
  BOOST_TEST(Call(server->port(), Request("POST", "/v1/chat/completions", ChatBody())).status ==
             200);
  const Reply reply = waits.Receive();
  BOOST_TEST(reply.status == 503);
  BOOST_TEST(CodeOf(reply) == "busy");
  waits.Send(kModels);  // the connection is still good
  BOOST_TEST(waits.Receive().status == 200);
  Connection goes(server->port());
  goes.Send(Request("GET", "/v1/lessons"));
  std::this_thread::sleep_for(milliseconds(20));
  door.HoldDisk(false);
  BOOST_TEST(Call(server->port(), Request("GET", "/v1/lessons")).status == 200);
  server.reset();
}

BOOST_AUTO_TEST_CASE(connections_beyond_the_most_are_told_so) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.connections_max = 2;
  const HttpServer server(options, door);
  {
    Connection first(server.port()), second(server.port());
    first.Send(kModels);
    second.Send(kModels);
    BOOST_TEST(first.Receive().status == 200);
    BOOST_TEST(second.Receive().status == 200);
    Connection third(server.port());
    const Reply reply = third.Receive();
    BOOST_TEST(reply.status == 503);
    BOOST_TEST(CodeOf(reply) == "too_many_connections");
  }
  int status = 0;
  for (int i = 0; i < 600 && status != 200; ++i) {
    status = Call(server.port(), kModels).status;
    if (status != 200) std::this_thread::sleep_for(milliseconds(10));
  }
  BOOST_TEST(status == 200);
}

BOOST_AUTO_TEST_CASE(a_client_that_does_not_take_its_answer_is_cut_off) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.connections_max = 1;
  options.write_timeout = milliseconds(200);
  const HttpServer server(options, door);
  Connection greedy(server.port());
  // Answers that nobody takes, until no more of them fit between the two.
  std::string many;
  for (int i = 0; i < 200; ++i) many += Request("GET", "/openapi.json");
  for (int i = 0; i < 20 && greedy.Send(many); ++i) {
  }
  int status = 0;
  for (int i = 0; i < 600 && status != 200; ++i) {
    status = Call(server.port(), kModels).status;
    if (status != 200) std::this_thread::sleep_for(milliseconds(10));
  }
  BOOST_TEST(status == 200);
}

BOOST_AUTO_TEST_CASE(a_server_that_ends_leaves_nobody_waiting_and_the_door_may_still_speak) {
  StandInDoor door;
  door.Stall(true);
  Json body = Json::parse(ChatBody(true));
  auto server = std::make_unique<HttpServer>(Patient(), door);
  Connection idle(server->port());
  Connection half(server->port());
  half.Send("POST /v1/events HTTP/1.1\r\n");
  Connection waiting(server->port());
  waiting.Send(Request("POST", "/v1/chat/completions", body.dump()));
  std::this_thread::sleep_for(milliseconds(50));
  const auto begin = std::chrono::steady_clock::now();
  server.reset();
  BOOST_TEST((std::chrono::steady_clock::now() - begin < std::chrono::seconds(30)));
  BOOST_TEST(idle.ReadToEnd() == "");
  BOOST_TEST(half.ReadToEnd() == "");
  BOOST_TEST(waiting.ReadToEnd() == "");
  door.Stall(false);
  for (int i = 0; i < 600 && door.Log().empty(); ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  BOOST_TEST(door.Log().size() == 1);
}

BOOST_AUTO_TEST_CASE(what_the_door_says_before_the_end_still_reaches_its_client) {
  StandInDoor door;
  door.Stall(true);
  auto server = std::make_unique<HttpServer>(Patient(), door);
  Connection waiting(server->port());
  waiting.Send(Request("POST", "/v1/chat/completions", ChatBody()));
  std::this_thread::sleep_for(milliseconds(50));
  door.Stall(false);
  server.reset();
  BOOST_TEST(waiting.Receive().status == 200);
  BOOST_TEST(waiting.ReadToEnd() == "");
}

BOOST_AUTO_TEST_CASE(many_clients_at_once_get_each_their_own_answer) {
  StandInDoor door;
  HttpOptions options = Patient();
  options.threads = 3;
  const HttpServer server(options, door);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&, client] {
      Connection connection(server.port());
      for (int i = 0; i < 50; ++i) {
        const std::string question = std::to_string(client) + "/" + std::to_string(i) + "?";
        Json body = Json::parse(ChatBody(i % 2 == 1));
        body["messages"][0]["content"] = question;
        connection.Send(Request("POST", "/v1/chat/completions", body.dump()));
        const Reply reply = connection.Receive();
        if (reply.body.find(StandInDoor::AnswerTo(question)) == std::string::npos) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  BOOST_TEST(wrong == 0);
  BOOST_TEST(door.Log().size() == 400);
}

BOOST_AUTO_TEST_CASE(a_port_that_is_taken_and_an_address_without_keys_are_start_errors) {
  StandInDoor door;
  const HttpServer server(Patient(), door);
  HttpOptions options = Patient();
  options.port = server.port();
  BOOST_CHECK_THROW(HttpServer(options, door), StartError);
  options = Patient();
  options.address = "0.0.0.0";
  BOOST_CHECK_THROW(HttpServer(options, door), StartError);
  const TempFolder folder;
  options.keys_file = folder.path() + "/keys.jsonl";
  const std::string key =
      AddKey({options.keys_file, "acme", "ann", false, {Role::kAsk}, 0}).value();
  const HttpServer open(options, door);
  BOOST_TEST(Call(open.port(), kModels).status == 401);
  BOOST_TEST(
      Call(open.port(), Request("GET", "/v1/models", "", "Authorization: Bearer " + key + "\r\n"))
          .status == 200);
}
