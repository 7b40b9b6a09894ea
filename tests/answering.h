// A shipped configuration of `nudge serve`, served in this process from an empty folder.
#pragma once

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "connectors/http/http_server.h"
#include "http_client.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/serve/serving.h"
#include "temp_folder.h"

namespace nudge::testing {

using Json = nlohmann::json;

// What one configuration answers, from an empty folder.
class Answering {
 public:
  // `change` may change what the file says.
  explicit Answering(const std::string& name, const std::function<void(Config&)>& change = {})
      : config_(Moved(ReadConfig(std::string(NUDGE_SOURCE_DIR) + "/configs/" + name), change)),
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

  uint16_t port() const { return server_.port(); }

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
  Config Moved(Config config, const std::function<void(Config&)>& change) const {
    config.output.folder = folder_.path() + "/out";
    config.event_log.folder = folder_.path() + "/log";
    config.http.port = 0;
    if (change) change(config);
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

}  // namespace nudge::testing
