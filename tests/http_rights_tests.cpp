// labels: graph
// A restricted document behind the whole door: keys with groups, answers, outcomes, feedback.
#include <boost/test/unit_test.hpp>

#include <nlohmann/json.hpp>

#include "connectors/http/http_server.h"
#include "connectors/http/keys.h"
#include "http_client.h"
#include "serving_life.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;

namespace {

const std::string kSecret = "kestrelvale";

class Office {
 public:
  Office() : config_(ConfigIn(folder_.path())) {
    config_.http.port = 0;
    config_.http.keys_file = folder_.path() + "/keys.jsonl";
    ops = Key({Role::kIngest}, "ops");
    board = Key({Role::kAsk, Role::kFeedback}, "cem", {"board"});
    ann = Key({Role::kAsk, Role::kFeedback}, "ann");
    life_.emplace(config_);
    server_.emplace(config_.http, life_->door(), config_.processor.graph.limits);
  }

  Reply Send(const std::string& key, const std::string& method, const std::string& path,
             const Json& body = nullptr, const std::string& id = "") {
    return Call(server_->port(),
                Request(method, path, body.is_null() ? "" : body.dump(),
                        "Authorization: Bearer " + key + "\r\n" +
                            (id.empty() ? "" : "x-nudge-event-id: " + id + "\r\n")));
  }
  Reply Ask(const std::string& key, const std::string& id, const Json& extension = Json::object()) {
    return Send(key, "POST", "/v1/chat/completions",
                {{"model", life_->door().Models().front()},
                 {"nudge", extension},
                 {"messages",
                  {{{"role", "user"}, {"content", "What is the name of the merger project?"}}}}},
                id);
  }

  std::string ops, board, ann;

 private:
  std::string Key(std::vector<Role> roles, const std::string& user, Groups groups = {}) {
    return AddKey({config_.http.keys_file, "acme", user, false, std::move(roles), 0,
                   std::move(groups)})
        .value();
  }

  const TempFolder folder_;
  Config config_;
  std::optional<Life> life_;
  std::optional<HttpServer> server_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_restricted_document_comes_through_no_part_of_the_door) {
  Office office;
  const Json plans = {{"document_id", "plans"},
                      {"text", "The name of the merger project is " + kSecret + "."},
                      {"access", {"board"}}};
  BOOST_TEST(office.Send(office.ops, "POST", "/v1/documents", plans).status == 200);
  const Reply told = office.Ask(office.board, "q-board");
  BOOST_REQUIRE(told.status == 200);
  BOOST_TEST(told.body.find("plans") != std::string::npos, told.body);

  const auto shows_nothing = [](const Reply& reply) {
    BOOST_TEST(reply.body.find("plans") == std::string::npos, reply.body);
    BOOST_TEST(reply.body.find(kSecret) == std::string::npos, reply.body);
  };
  Reply reply = office.Ask(office.ann, "q-ann");
  BOOST_TEST(reply.status == 200);
  shows_nothing(reply);
  BOOST_TEST(Json::parse(reply.body)["nudge"]["citations"].empty());
  BOOST_TEST(!Json::parse(reply.body)["nudge"]["cache_hit"].get<bool>());
  reply = office.Ask(office.ann, "q-groups", {{"groups", {"board"}}});
  BOOST_TEST(reply.status == 403);
  shows_nothing(reply);
  // The same id as the board's question: another content, and no answer of theirs.
  reply = office.Ask(office.ann, "q-board");
  BOOST_TEST(reply.status == 409);
  shows_nothing(reply);
  reply = office.Send(office.ann, "GET", "/v1/outcomes/q-board");
  BOOST_TEST(reply.status == 404);
  shows_nothing(reply);
  BOOST_TEST(office.Send(office.board, "GET", "/v1/outcomes/q-board").status == 200);
  reply =
      office.Send(office.ann, "POST", "/v1/feedback", {{"answer_id", "q-board"}, {"rating", "up"}});
  shows_nothing(reply);
  reply = office.Send(office.ann, "GET", "/v1/outcomes/q-ann");
  BOOST_TEST(reply.status == 200);
  shows_nothing(reply);
}
