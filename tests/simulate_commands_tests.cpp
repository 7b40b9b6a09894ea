// labels: golden
// The commands of docs/SIMULATION.md, as they stand there. Those of a real model would take hours:
// what they name is there and can be read.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "pipeline/config/config.h"
#include "pipeline/simulate/world.h"
#include "tests/run_command.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::RunCommand;
using nudge::testing::TempFolder;

namespace {

const std::string kProgram = "build/release/nudge ";
const std::string kSimulate = std::string(NUDGE_BINARY) + " simulate ";

std::vector<std::string> Commands() {
  std::ifstream guide(std::string(NUDGE_SOURCE_DIR) + "/docs/SIMULATION.md");
  std::vector<std::string> commands;
  for (std::string line; std::getline(guide, line);) {
    if (line.starts_with(kProgram)) commands.push_back(line.substr(kProgram.size()));
  }
  return commands;
}

// The word behind `option`.
std::string Behind(const std::string& command, const std::string& option) {
  std::istringstream words(command);
  for (std::string word; words >> word;) {
    if (word == option) return words >> word ? word : "";
  }
  return "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_commands_of_the_guide_end_well) {
  size_t run = 0;
  for (const std::string& command : Commands()) {
    const std::string config = Behind(command, command.substr(0, command.find(' ')));
    if (config == "configs/quickstart-template.json") {
      const auto [status, output] = RunCommand(std::string(NUDGE_BINARY) + " " + command);
      BOOST_TEST(status == 0, command << ": " << output);
      ++run;
    } else {
      BOOST_CHECK_NO_THROW((void)ReadConfig(config));
      BOOST_CHECK_NO_THROW((void)ReadWorld(Behind(command, "--world")));
    }
  }
  BOOST_TEST(run >= 3U);
}

BOOST_AUTO_TEST_CASE(every_shipped_world_runs_with_its_controls_and_its_logs_replay) {
  for (const auto& entry : std::filesystem::directory_iterator("configs/worlds")) {
    const TempFolder folder;
    const std::string config = "configs/quickstart-template.json";
    const auto [status, output] =
        RunCommand(kSimulate + config + " --world " + entry.path().string() +
                   " --lessons 9 --controls --out " + folder.path());
    BOOST_TEST_REQUIRE(status == 0, entry.path() << ": " << output);
    BOOST_TEST(std::filesystem::exists(folder.path() + "/report.html"));
    std::ifstream file(folder.path() + "/simulation.json");
    const auto json = nlohmann::json::parse(file);
    for (const auto& one : json["runs"]) {
      const auto replayed =
          RunCommand(std::string(NUDGE_BINARY) + " replay " + config + " --quiet --fresh --input " +
                     one["events"].get<std::string>() + " --output " + folder.path() + "/replayed");
      BOOST_TEST(replayed.first == 0, replayed.second);
      BOOST_TEST(
          replayed.second.find("outcomes sha256 " + one["outcomes_sha256"].get<std::string>()) !=
              std::string::npos,
          entry.path() << ", " << one["run"] << ": " << replayed.second);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_simulated_is_said_with_what_to_do) {
  const std::string config = "configs/quickstart-template.json";
  const auto says = [](const std::string& arguments, int exit_code, const std::string& what) {
    const auto [status, output] = RunCommand(kSimulate + arguments);
    BOOST_TEST(WEXITSTATUS(status) == exit_code, output);
    BOOST_TEST(output.find(what) != std::string::npos, output);
  };
  says(config, 2, "--world is required");
  says(config + " --world nowhere.json", 2, "nowhere.json: No such file or directory");
  says(config + " --world configs/quickstart.json", 2, "unknown key: docs/SIMULATION.md lists");
  says("nowhere.json --world configs/worlds/all_up.json", 2, "nowhere.json: no such file");
  says(config + " --world configs/worlds/all_up.json --out /proc/nowhere", 2, "with --out");
}
