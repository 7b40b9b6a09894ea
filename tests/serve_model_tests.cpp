// labels: model
// The shipped configurations of `nudge serve`, asked over HTTP; one with a real model, which learns
// from what it is told.
#include <boost/test/unit_test.hpp>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "connectors/http/http_server.h"
#include "http_client.h"
#include "models.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/serve/serving.h"
#include "temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Json = nlohmann::json;

// What one configuration answers, from an empty folder.
class Answering {
 public:
  explicit Answering(const std::string& name)
      : config_(Moved(ReadConfig(std::string(NUDGE_SOURCE_DIR) + "/configs/" + name))),
        backend_(MakeBackend(config_)),
        serving_(
            ToServingOptions(config_), *backend_, [](const std::string&) {}, stop_),
        server_(config_.http, serving_.door(), config_.processor.graph.limits),
        thread_([this] { done_ = serving_.Run(); }) {}
  ~Answering() {
    stop_ = true;
    thread_.join();
    BOOST_TEST(done_.ok());
  }

  Json Ask(const std::string& id, const std::string& question) {
    const Json body = {{"model", serving_.door().Models().front()},
                       {"messages", {{{"role", "user"}, {"content", question}}}}};
    return Answer("/v1/chat/completions", body, id);
  }
  // The pieces of a streamed answer.
  std::vector<std::string> Stream(const std::string& question) {
    const Json body = {{"model", serving_.door().Models().front()},
                       {"stream", true},
                       {"messages", {{{"role", "user"}, {"content", question}}}}};
    const Reply reply =
        Call(server_.port(), Request("POST", "/v1/chat/completions", body.dump(), ""));
    BOOST_TEST(reply.status == 200, reply.body);
    std::vector<std::string> pieces;
    std::istringstream lines(reply.body);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("data: {")) continue;
      const Json chunk = Json::parse(line.substr(6));
      BOOST_TEST(!chunk.contains("error"), line);
      BOOST_TEST(!chunk.value("nudge", Json::object()).contains("streamed_differs"), line);
      const Json& choices = chunk.at("choices");
      if (choices.empty()) continue;
      const std::string text = choices.at(0).at("delta").value("content", "");
      if (!text.empty()) pieces.push_back(text);
    }
    return pieces;
  }
  Json Answer(const std::string& path, const Json& body, const std::string& id = "") {
    const Reply reply = Call(
        server_.port(),
        Request("POST", path, body.dump(), id.empty() ? "" : "x-nudge-event-id: " + id + "\r\n"));
    BOOST_TEST(reply.status == 200, reply.body);
    return Json::parse(reply.body);
  }

 private:
  Config Moved(Config config) const {
    config.output.folder = folder_.path() + "/out";
    config.event_log.folder = folder_.path() + "/log";
    config.http.port = 0;
    return config;
  }

  const TempFolder folder_;
  const Config config_;
  const std::unique_ptr<Backend> backend_;
  std::atomic<bool> stop_{false};
  Serving serving_;
  const HttpServer server_;
  Result<std::map<int32_t, PartitionSummary>> done_ = Error{};
  std::thread thread_;
};

std::string TextOf(const Json& answer) {
  return answer.at("choices").at(0).at("message").at("content");
}

// A document, a question, a correction, the question again under another id.
void Converse(Answering& served) {
  served.Answer("/v1/documents", {{"document_id", "heron"},
                                  {"title", "Heron"},
                                  {"text", "The Heron touring bike weighs 13.6 kilograms."}});
  const Json first = served.Ask("q-1", "How heavy is the Heron touring bike?");
  BOOST_TEST(!TextOf(first).empty());
  BOOST_TEST(first.at("nudge").at("citations").at(0).at("document_id") == "heron");
  served.Answer("/v1/feedback",
                {{"answer_id", "q-1"}, {"correction", "Short answer: 13.6 kilograms."}});
  const Json second = served.Ask("q-2", "How heavy is the Heron touring bike?");
  BOOST_TEST(!TextOf(second).empty());
  BOOST_TEST_MESSAGE("before: " << TextOf(first) << "\nafter: " << TextOf(second));
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_template_configuration_answers) {
  Answering served("serve-template.json");
  Converse(served);
  BOOST_TEST(served.Stream("How much does the Heron weigh?").size() == 2U);
}

BOOST_AUTO_TEST_CASE(the_models_configuration_answers_and_learns) {
  ModelPath();
  Answering served("serve-smollm.json");
  Converse(served);
  const Json third = served.Ask("q-3", "What does the Heron touring bike weigh?");
  BOOST_TEST(third.at("nudge").at("adapter").at("version").get<int>() > 0, third.dump());
  // Token by token, and what was streamed is what is committed.
  const std::vector<std::string> pieces = served.Stream("How much does the Heron weigh?");
  BOOST_TEST(pieces.size() >= 3U);
}
