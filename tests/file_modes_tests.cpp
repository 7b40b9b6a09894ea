// labels: unit
// What a run leaves on the disk is its owner's alone, whatever the umask: questions, answers and
// weights that were trained on them are nobody else's business until somebody says so.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "pipeline/commands/commands.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

namespace fs = std::filesystem;

// Path below the folder -> mode, of all that is in it and of itself.
std::map<std::string, fs::perms> ModesIn(const std::string& folder) {
  std::map<std::string, fs::perms> modes{{".", fs::status(folder).permissions()}};
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    modes[fs::relative(entry.path(), folder).string()] = entry.symlink_status().permissions();
  }
  return modes;
}

// With nothing of it printed; the page is asked for.
int ReplayOf(const std::string& output, bool fresh) {
  const TempFolder configs;
  const std::string shipped = std::string(NUDGE_SOURCE_DIR) + "/configs/";
  auto config = nlohmann::json::parse(std::ifstream(shipped + "quickstart-template.json"));
  config["input"]["path"] = fs::absolute(shipped + "quickstart/template.jsonl").string();
  config["output"]["folder"] = output;
  config["report"]["html"] = output + "/report.html";
  config.erase("$schema");
  ReplayArguments arguments;
  arguments.config_path = configs.path() + "/config.json";
  std::ofstream(arguments.config_path) << config.dump();
  arguments.fresh = fresh;
  std::ostringstream nowhere;
  std::streambuf* const out = std::cout.rdbuf(nowhere.rdbuf());
  std::streambuf* const error = std::cerr.rdbuf(nowhere.rdbuf());
  const mode_t before = umask(0);
  const int exit_code = Replay(arguments);
  umask(before);
  std::cout.rdbuf(out);
  std::cerr.rdbuf(error);
  return exit_code;
}

}  // namespace

BOOST_AUTO_TEST_CASE(after_a_run_every_file_is_0600_and_every_folder_0700) {
  const TempFolder folder;
  const std::string output = folder.path() + "/new/out";
  BOOST_REQUIRE(ReplayOf(output, true) == 0);
  const auto modes = ModesIn(folder.path() + "/new");
  for (const auto& [path, mode] : modes) {
    const bool is_folder = fs::is_directory(folder.path() + "/new/" + path);
    BOOST_TEST((mode == fs::perms(is_folder ? 0700 : 0600)), path);
  }
  for (const char* path : {"out/outcomes.jsonl", "out/dead_letters.jsonl", "out/report.html",
                           "out/summary.json", "out/state/partition-00000.sqlite"}) {
    BOOST_TEST(modes.contains(path), path);
  }
}

BOOST_AUTO_TEST_CASE(what_an_operator_opened_to_others_stays_open_until_a_fresh_run_makes_it_anew) {
  const TempFolder folder;
  const std::string output = folder.path() + "/out";
  BOOST_REQUIRE(ReplayOf(output, true) == 0);
  fs::permissions(output, fs::perms(0750));
  for (const char* file : {"/outcomes.jsonl", "/report.html"}) {
    fs::permissions(output + file, fs::perms(0640));
  }
  for (const bool fresh : {false, true}) {
    BOOST_REQUIRE(ReplayOf(output, fresh) == 0);
    const auto modes = ModesIn(output);
    BOOST_TEST((modes.at(".") == fs::perms(0750)));
    for (const char* file : {"outcomes.jsonl", "report.html"}) {
      BOOST_TEST((modes.at(file) == fs::perms(fresh ? 0600 : 0640)), file);
    }
    BOOST_TEST((modes.at("dead_letters.jsonl") == fs::perms(0600)));
  }
}
