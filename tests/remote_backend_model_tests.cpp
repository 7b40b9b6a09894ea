// labels: model
// The shipped configuration whose answers are another server's: asked over HTTP, with the base
// model of the same name served by a `nudge serve` of its own; and as a command, with nobody there.
#include <boost/test/unit_test.hpp>

#include <sys/wait.h>

#include <fstream>
#include <string>

#include "answering.h"
#include "models.h"
#include "run_command.h"
#include "stages/exit_code.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

std::string TextOf(const Json& answer) {
  return answer.at("choices").at(0).at("message").at("content");
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_shipped_configuration_is_answered_by_another_server_and_learns_here) {
  ModelPath();
  Answering upstream("serve-smollm.json", [](Config& config) {
    config.processor.prompt.default_system.clear();
    config.processor.adapt.enabled = false;
  });
  Answering served("serve-openai.json", [&](Config& config) {
    config.model.remote.url = "http://127.0.0.1:" + std::to_string(upstream.port()) + "/v1";
    config.model.remote.model = "SmolLM2-135M-Instruct.Q4_1";
    config.processor.prompt.default_system.clear();  // which nudge serve takes from no question
    config.processor.adapt.snapshot_every_versions = 1;
  });
  served.Answer("/v1/documents", {{"document_id", "heron"},
                                  {"title", "Heron"},
                                  {"text", "The Heron touring bike weighs 13.6 kilograms."}});
  const Json first = served.Ask("q-1", "How heavy is the Heron touring bike?");
  BOOST_TEST(!TextOf(first).empty());
  BOOST_TEST(first.at("nudge").at("citations").at(0).at("document_id") == "heron");
  BOOST_TEST(first.at("usage").at("completion_tokens").get<int>() > 0, first.dump());
  const Json told = served.Answer(
      "/v1/feedback", {{"answer_id", "q-1"}, {"correction", "Short answer: 13.6 kilograms."}});
  BOOST_TEST_MESSAGE(told.dump());
  // The version is made, and the base answers.
  const Json second = served.Ask("q-2", "How heavy is the Heron touring bike?");
  BOOST_TEST(second.at("nudge").at("adapter").at("version").get<int>() == 0, second.dump());
  BOOST_TEST(TextOf(second) == TextOf(first));
  BOOST_TEST(served.Stream("How much does the Heron weigh?").size() >= 3U);
}

BOOST_AUTO_TEST_CASE(a_server_that_is_not_there_ends_the_command_with_its_own_exit_code) {
  ModelPath();
  const TempFolder folder;
  Json config =
      Json::parse(std::ifstream(std::string(NUDGE_SOURCE_DIR) + "/configs/serve-openai.json"));
  config["input"]["path"] = folder.path() + "/events.jsonl";
  config["output"]["folder"] = folder.path() + "/out";
  config["model"]["openai"]["url"] = "http://127.0.0.1:9/v1";  // discard, where nobody listens
  config["model"]["openai"]["retries_max"] = 1;
  config["adapt"].erase("anchors_path");
  std::ofstream(folder.path() + "/config.json") << config.dump();
  std::ofstream(folder.path() + "/events.jsonl")
      << R"({"specversion":"1.0","id":"q-1","source":"/web","type":"nudge.query","tenant":"acme",)"
      << R"("data":{"text":"When is the report due?"}})"
      << "\n";
  const auto [status, said] =
      RunCommand("NUDGE_CACHE='" + CacheFolder() + "' " NUDGE_BINARY " replay '" + folder.path() +
                 "/config.json'");
  BOOST_TEST(WIFEXITED(status));
  BOOST_TEST(WEXITSTATUS(status) == kExitUnavailable, said);
  BOOST_TEST(said.find("the server that answers (model.openai.url, http://127.0.0.1:9/v1) does "
                       "not, after 2 tries: no connection") != std::string::npos,
             said);
}
