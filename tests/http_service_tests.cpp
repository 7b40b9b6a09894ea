// labels: unit
// Who may do what over HTTP: keys, tenants, users, roles, rates, origins; and that openapi.json
// says what the routes are. Behind it stands a stand-in for the log.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <set>

#include "connectors/http/embedded.h"
#include "connectors/http/http_service.h"
#include "connectors/http/request_target.h"
#include "tests/http_door.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;

namespace {

using Headers = std::map<std::string, std::string>;

class KeyedWorld {
 public:
  std::string Add(std::vector<Role> roles, const std::string& user = "", bool names_users = false,
                  uint32_t requests_per_minute = 0, const std::string& tenant = "acme") {
    return AddKey({file(), tenant, user, names_users, std::move(roles), requests_per_minute})
        .value();
  }
  std::string AddIn(Groups groups, const std::string& user, bool names_users = false) {
    return AddKey({file(), "acme", user, names_users, {Role::kAsk}, 0, std::move(groups)}).value();
  }
  std::string file() const { return folder_.path() + "/keys.jsonl"; }

  void Open(const std::string& origins = "", size_t owners_kept_max = 100) {
    HttpOptions options;
    options.owners_kept_max = owners_kept_max;
    options.keys_file = file();
    options.cors_origins = origins;
    service_.emplace(options, door, EventLimits{});
  }

  HttpResponse Send(const std::string& method, const std::string& path, const std::string& key,
                    const std::string& body = "", Headers headers = {}) {
    headers.try_emplace("content-type", "application/json");
    if (!key.empty()) headers.emplace("authorization", "Bearer " + key);
    HttpRequest request{method, "", {}, std::move(headers), body};
    ReadTarget(path, request);
    HttpServed served = service_->Take(request, now, 1'700'000'000);
    sent_headers = served.headers;
    if (auto* errand = std::get_if<HttpErrand>(&served.handled)) {
      return std::get<HttpResponse>(errand->run());
    }
    auto* plan = std::get_if<HttpPlan>(&served.handled);
    if (plan == nullptr) return std::get<HttpResponse>(served.handled);
    std::vector<HttpEnding> endings(1);
    std::promise<void> done;
    const HttpPlan::Item& event = plan->events.at(0);
    door.Submit(event.tenant, event.json,
                {[&](int64_t offset) {
                   endings[0].stored = true;
                   service_->Stored(event, offset);
                 },
                 [](std::string_view) {},
                 [&](const std::string& line) {
                   endings[0].outcome = line;
                   done.set_value();
                 },
                 [&](const Error&) { done.set_value(); }});
    done.get_future().wait();
    return plan->answer(endings);
  }

  void Store(const HttpPlan::Item& event, int64_t offset) { service_->Stored(event, offset); }

  unsigned Post(const std::string& key, const Json& event) {
    return Send("POST", "/v1/events", key, event.dump()).status;
  }

  StandInDoor door;
  HttpService::Clock::time_point now;
  std::vector<std::pair<std::string, std::string>> sent_headers;

 private:
  TempFolder folder_;
  std::optional<HttpService> service_;
};

Json EventOf(const std::string& id, const std::string& type, const Json& data) {
  return {{"specversion", "1.0"}, {"id", id}, {"source", "/x"}, {"type", type}, {"data", data}};
}

Json Question(const std::string& id) {
  return EventOf(id, "nudge.query", {{"text", "Hello?"}});
}

std::string CodeOf(const HttpResponse& response) {
  return Json::parse(response.body)["error"]["code"];
}

std::string ValueOf(const std::vector<std::pair<std::string, std::string>>& headers,
                    const std::string& name) {
  for (const auto& [one, value] : headers) {
    if (one == name) return value;
  }
  return "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_key_is_printed_once_and_only_its_hash_is_kept) {
  KeyedWorld world;
  const std::string key = world.Add({Role::kAsk});
  const std::string file = FileBytes(world.file());
  BOOST_TEST(key.starts_with("nudge-"));
  BOOST_TEST(key.size() == 6 + 16 + 1 + 64);
  BOOST_TEST(file.find(key.substr(23)) == std::string::npos);
  BOOST_TEST(file.find("scrypt$1024$8$1$") != std::string::npos);
  struct stat status {};
  BOOST_REQUIRE(stat(world.file().c_str(), &status) == 0);
  BOOST_TEST((status.st_mode & 0777) == 0600);
  BOOST_TEST(world.Add({Role::kAsk}) != key);
  BOOST_TEST(KeyRing(world.file()).size() == 2);
}

BOOST_AUTO_TEST_CASE(only_a_key_that_is_right_to_its_last_digit_is_found) {
  KeyedWorld world;
  const std::string key = world.Add({Role::kAsk}, "ann");
  const KeyRing ring(world.file());
  for (int i = 0; i < 2; ++i) {  // the second time it is known by its SHA-256
    const auto caller = ring.Find(key);
    BOOST_REQUIRE(caller.has_value());
    BOOST_TEST(caller->tenant == "acme");
    BOOST_TEST(caller->user == "ann");
    BOOST_TEST(caller->May(Role::kAsk));
    BOOST_TEST(!caller->May(Role::kRead));
  }
  for (const size_t at : {size_t{0}, size_t{6}, size_t{22}, size_t{23}, key.size() - 1}) {
    std::string other = key;
    other[at] = other[at] == '0' ? '1' : '0';
    BOOST_TEST(!ring.Find(other), other);
  }
  for (const std::string& other : {std::string(), key + "0", key.substr(0, key.size() - 1),
                                   std::string("nudge-"), std::string("Bearer")}) {
    BOOST_TEST(!ring.Find(other), other);
  }
}

BOOST_AUTO_TEST_CASE(a_file_of_keys_that_is_wrong_is_refused_with_its_line) {
  const TempFolder folder;
  const std::string path = folder.path() + "/keys.jsonl";
  const auto refusal = [&](const std::string& text) -> std::string {
    std::ofstream(path) << text;
    try {
      const KeyRing ring(path);
    } catch (const StartError& error) {
      return error.what();
    }
    return "";
  };
  KeyedWorld world;
  world.Add({Role::kAsk});
  const std::string good = FileBytes(world.file());
  BOOST_TEST(refusal("\n" + good) == "");
  const auto expect = [&](const std::string& text, const std::string& part) {
    const std::string said = refusal(text);
    BOOST_TEST(said.find(part) != std::string::npos, said);
  };
  expect("", "no key in it");
  expect(good + "{", ":2: ");
  expect(good + good, ":2: the id");
  Json key = Json::parse(good);
  key["roles"] = {"ask", "king"};
  expect(key.dump(), "king is no role");
  key = Json::parse(good);
  for (const char* hash : {"", "plain", "scrypt$1023$8$1$aa$bb", "scrypt$9999999999$8$1$aa$bb"}) {
    key["hash"] = hash;
    expect(key.dump(), "hash");
  }
  key = Json::parse(good);
  key["role"] = "ask";
  expect(key.dump(), "role");
  std::filesystem::remove(path);
  BOOST_CHECK_THROW(KeyRing{path}, StartError);
}

BOOST_AUTO_TEST_CASE(without_keys_only_this_machine_is_served) {
  StandInDoor door;
  HttpOptions options;
  for (const char* address : {"0.0.0.0", "::", "192.0.2.1", "example.com", "127.example.com"}) {
    options.address = address;
    BOOST_CHECK_THROW(HttpService(options, door, {}), StartError);
  }
  for (const char* address : {"127.0.0.1", "127.0.0.2", "::1", "localhost"}) {
    options.address = address;
    HttpService service(options, door, {});
    const auto status = [&](const std::string& host) {
      const HttpServed served =
          service.Take({"GET", "/v1/models", {}, {{"host", host}}, ""}, {}, 0);
      return std::get<HttpResponse>(served.handled).status;
    };
    BOOST_TEST(status("localhost:8080") == 200);
    BOOST_TEST(status("[::1]:8080") == 200);
    BOOST_TEST(status("127.0.0.1") == 200);
    BOOST_TEST(status("rebound.example:8080") == 403);
    BOOST_TEST(status("127.rebound.example") == 403);
    BOOST_TEST(status("") == 403);
  }
}

BOOST_AUTO_TEST_CASE(a_request_without_a_right_key_is_refused) {
  KeyedWorld world;
  const std::string key = world.Add({Role::kAsk});
  world.Open();
  const HttpResponse none = world.Send("GET", "/v1/models", "");
  BOOST_TEST(none.status == 401);
  BOOST_TEST(ValueOf(none.headers, "WWW-Authenticate") == "Bearer");
  BOOST_TEST(CodeOf(none) == "no_key");
  BOOST_TEST(CodeOf(world.Send("GET", "/v1/models", "nudge-wrong")) == "invalid_api_key");
  BOOST_TEST(world.Send("GET", "/v1/models", key).status == 200);
  BOOST_TEST(world.Send("GET", "/healthz", "").status == 200);
  BOOST_TEST(world.Send("GET", "/openapi.json", "").status == 200);
  BOOST_TEST(world.Send("GET", "/nothing", key).status == 404);
  const HttpResponse wrong = world.Send("DELETE", "/v1/models", key);
  BOOST_TEST(wrong.status == 405);
  BOOST_TEST(ValueOf(wrong.headers, "Allow") == "GET");
}

BOOST_AUTO_TEST_CASE(the_key_decides_tenant_and_user) {
  KeyedWorld world;
  const std::string ann = world.Add({Role::kAsk}, "ann");
  const std::string nobody = world.Add({Role::kAsk});
  const std::string shop = world.Add({Role::kAsk}, "", true);
  world.Open();
  const auto logged = [&] { return DecodeEvent(world.door.Log().back()).value(); };

  BOOST_TEST(world.Post(ann, Question("1")) == 200);
  BOOST_TEST(logged().tenant == "acme");
  BOOST_TEST(logged().user == "ann");
  BOOST_TEST(world.Post(nobody, Question("2")) == 200);
  BOOST_TEST(logged().user == "key-" + nobody.substr(6, 16));
  Json event = Question("3");
  event["user"] = "ben";
  BOOST_TEST(world.Post(ann, event) == 403);
  BOOST_TEST(world.Post(nobody, event) == 403);
  BOOST_TEST(world.Post(shop, event) == 200);
  BOOST_TEST(logged().user == "ben");
  event = Question("4");
  event["tenant"] = "other";
  BOOST_TEST(world.Post(ann, event) == 403);
  BOOST_TEST(world.Post(shop, event) == 403);
  event["tenant"] = "acme";
  BOOST_TEST(world.Post(ann, event) == 200);
  const HttpResponse header =
      world.Send("POST", "/v1/events", ann, Question("5").dump(), {{"x-nudge-tenant", "other"}});
  BOOST_TEST(header.status == 403);
  BOOST_TEST(CodeOf(header) == "wrong_tenant");
  const Json chat = {{"model", "stand-in"},
                     {"user", "ben"},
                     {"messages", {{{"role", "user"}, {"content", "Hi?"}}}}};
  BOOST_TEST(world.Send("POST", "/v1/chat/completions", ann, chat.dump()).status == 403);
  BOOST_TEST(world.Send("POST", "/v1/chat/completions", shop, chat.dump()).status == 200);
  BOOST_TEST(world.door.Log().size() == 5);
}

BOOST_AUTO_TEST_CASE(the_key_decides_the_groups_of_who_asks) {
  KeyedWorld world;
  const std::string ann = world.AddIn({"board", "sales"}, "ann");
  const std::string bob = world.AddIn({}, "bob");
  const std::string shop = world.AddIn({"shop"}, "", true);
  world.Open();
  const auto ask = [](const std::string& id, const Json& groups, const std::string& user = "") {
    Json event = Question(id);
    if (!groups.is_null()) event["data"]["groups"] = groups;
    if (!user.empty()) event["user"] = user;
    return event;
  };
  const auto logged = [&] {
    return std::get<Query>(DecodeEvent(world.door.Log().back()).value().data).groups;
  };
  BOOST_TEST(world.Post(ann, ask("1", nullptr)) == 200);
  BOOST_TEST((logged() == Groups{"board", "sales"}));
  BOOST_TEST(world.Post(ann, ask("2", {"sales", "board"})) == 200);
  BOOST_TEST(world.Post(ann, ask("3", {"sales"})) == 403);
  BOOST_TEST(world.Post(bob, ask("4", nullptr)) == 200);
  BOOST_TEST(logged().empty());
  const HttpResponse refused = world.Send("POST", "/v1/events", bob, ask("5", {"board"}).dump());
  BOOST_TEST(refused.status == 403);
  BOOST_TEST(CodeOf(refused) == "wrong_groups");
  // A back end's own groups are for its own questions.
  BOOST_TEST(world.Post(shop, ask("6", nullptr)) == 200);
  BOOST_TEST((logged() == Groups{"shop"}));
  BOOST_TEST(world.Post(shop, ask("7", nullptr, "cem")) == 200);
  BOOST_TEST(logged().empty());
  BOOST_TEST(world.Post(shop, ask("8", {"board"}, "cem")) == 200);
  BOOST_TEST((logged() == Groups{"board"}));
  Json chat = {{"model", "stand-in"}, {"messages", {{{"role", "user"}, {"content", "Hi?"}}}}};
  BOOST_TEST(world.Send("POST", "/v1/chat/completions", ann, chat.dump()).status == 200);
  BOOST_TEST((logged() == Groups{"board", "sales"}));
  chat["nudge"] = {{"groups", {"board"}}, {"filter", {{"field", "kind"}, {"eq", "x"}}}};
  BOOST_TEST(world.Send("POST", "/v1/chat/completions", bob, chat.dump()).status == 403);
  chat["user"] = "cem";
  BOOST_TEST(world.Send("POST", "/v1/chat/completions", shop, chat.dump()).status == 200);
  BOOST_TEST((logged() == Groups{"board"}));
  BOOST_TEST(std::get<Query>(DecodeEvent(world.door.Log().back()).value().data).filter.has_value());
  BOOST_TEST(KeyRing(world.file()).Find(ann)->groups.size() == 2);
}

BOOST_AUTO_TEST_CASE(each_type_of_event_needs_its_role_and_what_commands_needs_admin) {
  KeyedWorld world;
  const std::map<Role, std::string> keys = {{Role::kAsk, world.Add({Role::kAsk})},
                                            {Role::kFeedback, world.Add({Role::kFeedback})},
                                            {Role::kIngest, world.Add({Role::kIngest})},
                                            {Role::kRead, world.Add({Role::kRead})},
                                            {Role::kAdmin, world.Add({Role::kAdmin})}};
  world.Open();
  const std::string hash(64, 'a');
  const std::vector<std::pair<Role, Json>> events = {
      {Role::kAsk, Question("")},
      {Role::kFeedback,
       EventOf("", "nudge.feedback",
               {{"inline", {{"query", "a"}, {"completion", "b"}}}, {"rating", "up"}})},
      {Role::kFeedback, EventOf("", "nudge.example", {{"query", "a"}, {"answer", "b"}})},
      {Role::kIngest, EventOf("", "nudge.document.upsert", {{"document_id", "d"}, {"text", "t"}})},
      {Role::kIngest, EventOf("", "nudge.document.delete", {{"document_id", "d"}})},
      {Role::kIngest, EventOf("", "nudge.source.sync", {{"document_ids", {"d"}}})},
      {Role::kAdmin, EventOf("", "nudge.prompt.upsert", {{"prompt_id", "p"}, {"system", "s"}})},
      {Role::kAdmin, EventOf("", "nudge.prompt.delete", {{"prompt_id", "p"}})},
      {Role::kAdmin, EventOf("", "nudge.adapter", {{"action", "reset"}})},
      {Role::kAdmin, EventOf("", "nudge.adapter", {{"action", "rollback"}})},
      {Role::kAdmin,
       EventOf("", "nudge.adapter", {{"action", "import"}, {"uri", "x"}, {"sha256", hash}})},
      {Role::kAdmin, EventOf("", "nudge.forget", {{"user", "ann"}})},
  };
  int number = 0;
  for (auto [needed, event] : events) {
    for (const auto& [role, key] : keys) {
      event["id"] = "e" + std::to_string(++number);
      const bool may = role == needed || role == Role::kAdmin;
      BOOST_TEST(world.Post(key, event) == (may ? 200u : 403u), Name(role) << ": " << event.dump());
    }
  }
}

BOOST_AUTO_TEST_CASE(an_outcome_is_seen_by_whose_it_is_and_by_read_and_admin) {
  KeyedWorld world;
  const std::string ann = world.Add({Role::kAsk}, "ann");
  const std::string ben = world.Add({Role::kAsk, Role::kFeedback}, "ben");
  const std::string reader = world.Add({Role::kRead});
  const std::string admin = world.Add({Role::kAdmin});
  const std::string other = world.Add({Role::kAdmin}, "", false, 0, "other");
  world.Open();
  const auto get = [&](const std::string& key) {
    return world.Send("GET", "/v1/outcomes/q-1", key).status;
  };
  BOOST_TEST(world.Post(ann, Question("q-1")) == 200);
  BOOST_TEST(get(ann) == 200);
  BOOST_TEST(get(reader) == 200);
  BOOST_TEST(get(admin) == 200);
  BOOST_TEST(get(ben) == 404);
  BOOST_TEST(get(other) == 404);
  // To send the same id makes nobody its owner.
  BOOST_TEST(world.Post(ben, Question("q-1")) == 200);
  BOOST_TEST(get(ben) == 404);
  // Nor does it where ben was first, with an event that was refused: the id is ann's afterwards.
  Json refused = EventOf("q-3", "nudge.feedback", {{"query_id", "none"}, {"rating", "up"}});
  BOOST_TEST(world.Post(ben, refused) == 200);
  BOOST_TEST(world.Send("GET", "/v1/outcomes/q-3", ben).status == 200);
  BOOST_TEST(world.Post(ann, Question("q-3")) == 200);
  BOOST_TEST(world.Send("GET", "/v1/outcomes/q-3", ann).status == 200);
  BOOST_TEST(world.Send("GET", "/v1/outcomes/q-3", ben).status == 404);
  // Whoever was not there cannot be told from whom it is not for.
  BOOST_TEST(world.Send("GET", "/v1/outcomes/q-1", ben).body.size() ==
             world.Send("GET", "/v1/outcomes/q-2", ben).body.size());
}

BOOST_AUTO_TEST_CASE(a_key_is_told_who_it_is_and_what_it_may) {
  KeyedWorld world;
  const std::string ann = world.Add({Role::kAsk, Role::kFeedback}, "ann");
  const std::string admin = world.Add({Role::kAdmin}, "adam", true);
  world.Open();
  BOOST_TEST(Json::parse(world.Send("GET", "/v1/caller", ann).body) ==
             Json::parse(R"({"tenant": "acme", "user": "ann", "names_users": false,
                             "roles": ["ask", "feedback"]})"));
  BOOST_TEST(Json::parse(world.Send("GET", "/v1/caller", admin).body) ==
             Json::parse(R"({"tenant": "acme", "user": "adam", "names_users": true,
                             "roles": ["ask", "feedback", "ingest", "read", "admin"]})"));
  BOOST_TEST(world.Send("GET", "/v1/caller", "").status == 401);
}

BOOST_AUTO_TEST_CASE(lessons_are_seen_by_whose_they_are_and_all_of_them_by_read_and_admin) {
  KeyedWorld world;
  const std::string ann = world.Add({Role::kAsk}, "ann");
  const std::string shop = world.Add({Role::kFeedback}, "shop", true);
  const std::string reader = world.Add({Role::kRead}, "rita");
  const std::string admin = world.Add({Role::kAdmin}, "adam");
  world.Open();
  const auto get = [&](const std::string& key, const std::string& query = "") {
    const HttpResponse response = world.Send("GET", "/v1/lessons" + query, key);
    return response.status == 200 ? Json::parse(response.body)["of"].get<std::string>()
                                  : std::to_string(response.status);
  };
  BOOST_TEST(get("") == "401");
  BOOST_TEST(get(ann) == "acme/ann/-/50");
  BOOST_TEST(get(ann, "?user=ann&limit=7&after=3") == "acme/ann/3/7");
  BOOST_TEST(get(ann, "?user=ben") == "403");
  BOOST_TEST(get(ann, "?tenant=other") == "403");
  BOOST_TEST(get(shop) == "acme/shop/-/50");
  BOOST_TEST(get(shop, "?user=ben") == "acme/ben/-/50");
  for (const std::string& key : {reader, admin}) {
    BOOST_TEST(get(key) == "acme/*/-/50");
    BOOST_TEST(get(key, "?user=ben") == "acme/ben/-/50");
    BOOST_TEST(get(key, "?tenant=other") == "403");
  }
  world.door.Fail(Error{Code::kUnavailable, "there is no state yet", "ask again"});
  const HttpResponse none = world.Send("GET", "/v1/lessons", ann);
  BOOST_TEST(none.status == 503);
  BOOST_TEST(ValueOf(none.headers, "Retry-After") == "1");
}

BOOST_AUTO_TEST_CASE(a_key_over_its_rate_is_told_when_to_come_again) {
  KeyedWorld world;
  const std::string slow = world.Add({Role::kAsk}, "", false, 2);
  const std::string free = world.Add({Role::kAsk});
  world.Open();
  const auto get = [&](const std::string& key) { return world.Send("GET", "/v1/models", key); };
  BOOST_TEST(get(slow).status == 200);
  BOOST_TEST(get(slow).status == 200);
  const HttpResponse refused = get(slow);
  BOOST_TEST(refused.status == 429);
  BOOST_TEST(ValueOf(refused.headers, "Retry-After") == "30");
  BOOST_TEST(CodeOf(refused) == "rate_limited");
  BOOST_TEST(get(free).status == 200);
  world.now += std::chrono::seconds(29);
  BOOST_TEST(ValueOf(get(slow).headers, "Retry-After") == "1");
  world.now += std::chrono::seconds(2);
  BOOST_TEST(get(slow).status == 200);
  BOOST_TEST(get(slow).status == 429);
  world.now += std::chrono::hours(1);
  BOOST_TEST(get(slow).status == 200);
  BOOST_TEST(get(slow).status == 200);
  BOOST_TEST(get(slow).status == 429);
}

BOOST_AUTO_TEST_CASE(pages_of_other_origins_may_only_call_if_they_are_listed) {
  KeyedWorld world;
  const std::string key = world.Add({Role::kAsk});
  world.Open("https://shop.example, https://help.example");
  const auto send = [&](const std::string& method, const std::string& origin, Headers more = {}) {
    more.insert({{"origin", origin}, {"host", "nudge.example:8080"}});
    return world.Send(method, "/v1/models", key, "", more).status;
  };
  BOOST_TEST(send("GET", "https://shop.example") == 200);
  BOOST_TEST(ValueOf(world.sent_headers, "Access-Control-Allow-Origin") == "https://shop.example");
  BOOST_TEST(send("GET", "https://evil.example") == 403);
  BOOST_TEST(ValueOf(world.sent_headers, "Access-Control-Allow-Origin") == "");
  BOOST_TEST(send("GET", "null") == 403);
  BOOST_TEST(send("GET", "https://shop.example.evil.example") == 403);
  BOOST_TEST(send("GET", "http://nudge.example:8080") == 200);  // its own
  BOOST_TEST(send("OPTIONS", "https://help.example",
                  {{"access-control-request-method", "POST"},
                   {"access-control-request-headers", "authorization"}}) == 204);
  BOOST_TEST(ValueOf(world.sent_headers, "Access-Control-Allow-Methods") == "GET, POST");
  BOOST_TEST(ValueOf(world.sent_headers, "Access-Control-Allow-Headers") == "authorization");
  BOOST_CHECK_THROW(world.Open("shop.example"), StartError);
  BOOST_CHECK_THROW(world.Open("*"), StartError);
  BOOST_CHECK_THROW(world.Open("https://shop.example/page"), StartError);
}

BOOST_AUTO_TEST_CASE(openapi_has_the_routes_their_methods_and_their_statuses) {
  const Json api = Json::parse(OpenApiText());
  BOOST_TEST(api["openapi"] == "3.1.0");
  std::set<std::string> described;
  for (const auto& [path, methods] : api["paths"].items()) {
    for (const auto& [method, operation] : methods.items()) {
      std::string line = method + " " + path;
      std::set<int> statuses;
      for (const auto& [status, response] : operation["responses"].items()) {
        statuses.insert(std::stoi(status));
        const Json contents = response.value("content", Json::object());
        for (const auto& [type, content] : contents.items()) {
          if (!content["schema"].contains("$ref")) continue;
          const std::string name = content["schema"]["$ref"];
          BOOST_TEST(api["components"]["schemas"].contains(name.substr(name.rfind('/') + 1)), name);
        }
      }
      for (const int status : statuses) line += " " + std::to_string(status);
      if (operation.contains("security")) line += " open";
      described.insert(line);
    }
  }
  std::set<std::string> routed;
  for (const Route& route : Routes()) {
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    std::string line = method + " " + std::string(route.path);
    for (const unsigned status : std::set<unsigned>(route.statuses.begin(), route.statuses.end())) {
      line += " " + std::to_string(status);
    }
    if (!route.needs_key) line += " open";
    routed.insert(line);
  }
  BOOST_TEST(described == routed, boost::test_tools::per_element());
  const std::set<unsigned> common = api["x-common-statuses"].get<std::set<unsigned>>();
  const auto statuses = CommonStatuses();
  BOOST_TEST(common == std::set<unsigned>(statuses.begin(), statuses.end()),
             boost::test_tools::per_element());
}

// Two tenants of different partitions may have events at the same offset.
BOOST_AUTO_TEST_CASE(whose_an_event_is_is_remembered_by_tenant_and_offset_the_newest_alone) {
  KeyedWorld world;
  const std::string ann = world.Add({Role::kAsk}, "ann", false, 0, "acme");
  const std::string bob = world.Add({Role::kAsk}, "bob", false, 0, "beta");
  world.Open("", 3);
  const auto is_theirs = [&](const std::string& key, const std::string& id) {
    const HttpResponse response = world.Send("GET", "/v1/outcomes/" + id, key);
    BOOST_TEST(response.status == 404U);
    return response.body.find("that are held here") != std::string::npos;
  };
  world.Store({"acme", "a", "ann", "", ""}, 900);
  world.Store({"acme", "q", "ann", "", ""}, 5);
  world.Store({"beta", "q", "bob", "", ""}, 5);
  BOOST_TEST(is_theirs(ann, "a"));
  BOOST_TEST(is_theirs(ann, "q"));
  BOOST_TEST(is_theirs(bob, "q"));
  BOOST_TEST(!is_theirs(bob, "a"));
  world.Store({"beta", "r", "bob", "", ""}, 6);
  BOOST_TEST(!is_theirs(ann, "a"));  // the oldest, though its offset is the largest
  BOOST_TEST(is_theirs(ann, "q"));
  BOOST_TEST(is_theirs(bob, "q"));
  BOOST_TEST(is_theirs(bob, "r"));
}
