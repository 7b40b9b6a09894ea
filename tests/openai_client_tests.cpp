// labels: model
// OpenAI's own Python package against `nudge serve`, as its users write it: openai_client.py starts
// the server, asks whole and as a stream, asks again under one id, and asks for what cannot be
// done.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "models.h"
#include "run_command.h"
#include "temp_folder.h"

using namespace nudge::testing;

namespace {

using Json = nlohmann::json;

// The shipped configuration, with its folders and port moved; what it reads lies where it lay.
std::string MovedConfig(const std::string& name, const std::string& folder,
                        const std::string& keys = "") {
  const std::string shipped = std::string(NUDGE_SOURCE_DIR) + "/configs/";
  Json config = Json::parse(std::ifstream(shipped + name));
  config["event_log"]["folder"] = folder + "/log";
  config["output"]["folder"] = folder + "/out";
  config["http"]["port"] = 0;
  if (config.contains("adapt")) {
    const std::string anchors = config["adapt"]["anchors_path"];
    config["adapt"]["anchors_path"] = std::filesystem::absolute(shipped + anchors);
  }
  if (!keys.empty()) config["http"]["keys_file"] = keys;
  const std::string path = folder + "/config.json";
  std::ofstream(path) << config.dump();
  return path;
}

// What the client prints, at its end with 0.
std::string Speak(const std::string& config, const std::string& key = "") {
  const std::string package = CacheFolder() + "/openai";
  BOOST_REQUIRE_MESSAGE(std::filesystem::exists(package), package + ": run scripts/setup");
  const auto [status, said] =
      RunCommand("NUDGE_CACHE='" + CacheFolder() + "' PYTHONPATH='" + package +
                 "' timeout 600 /usr/bin/python3 " NUDGE_SOURCE_DIR
                 "/tests/openai_client.py " NUDGE_BINARY " '" +
                 config + "' " + key);
  BOOST_TEST(status == 0, said);
  return said;
}

}  // namespace

BOOST_AUTO_TEST_CASE(without_a_model_and_without_keys) {
  const TempFolder folder;
  BOOST_TEST(Speak(MovedConfig("serve-template.json", folder.path())).starts_with("template: "));
}

BOOST_AUTO_TEST_CASE(without_a_model_with_a_key) {
  const TempFolder folder;
  const std::string keys = folder.path() + "/keys.jsonl";
  const auto [status, said] =
      RunCommand(NUDGE_BINARY " key add --tenant acme --user ann --roles ask --file " + keys);
  BOOST_REQUIRE_MESSAGE(status == 0, said);
  std::smatch key;
  BOOST_REQUIRE(std::regex_search(said, key, std::regex("nudge-[0-9a-f]{16}-[0-9a-f]{64}")));
  Speak(MovedConfig("serve-template.json", folder.path(), keys), key.str());
}

BOOST_AUTO_TEST_CASE(with_a_real_model) {
  const TempFolder folder;
  const std::string said = Speak(MovedConfig("serve-smollm.json", folder.path()));
  BOOST_TEST_MESSAGE(said);
  BOOST_TEST(said.find("SmolLM2") != std::string::npos, said);
}
