// labels: model
// The Debian package: what is in it, that it starts from where it lies, and how little its service
// may do.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "models.h"
#include "run_command.h"
#include "temp_folder.h"

using namespace nudge::testing;

namespace {

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string Replaced(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
  return text;
}

// The package, made anew and unpacked below a folder of its own; never installed.
struct Package {
  TempFolder folder;
  std::string file;
  std::string root = folder.path() + "/root";

  Package() {
    const std::string build = std::filesystem::path(NUDGE_BINARY).parent_path();
    const auto [status, said] = RunCommand("cpack -G DEB --config " + build +
                                           "/CPackConfig.cmake -B " + folder.path() + "/made");
    BOOST_REQUIRE_MESSAGE(status == 0, said);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path() + "/made")) {
      if (entry.path().extension() == ".deb") file = entry.path();
    }
    BOOST_REQUIRE(!file.empty());
    const auto [unpacked, why] = RunCommand("dpkg-deb -x " + file + " " + root);
    BOOST_REQUIRE_MESSAGE(unpacked == 0, why);
  }
};

struct OnePackage {
  OnePackage() { package = std::make_unique<Package>(); }
  ~OnePackage() { package.reset(); }
  static inline std::unique_ptr<Package> package;
};

const Package& ThePackage() {
  return *OnePackage::package;
}

}  // namespace

BOOST_TEST_GLOBAL_FIXTURE(OnePackage);

BOOST_AUTO_TEST_CASE(the_package_names_the_libraries_that_the_program_was_linked_with) {
  const auto [status, depends] = RunCommand("dpkg-deb -f " + ThePackage().file + " Depends");
  BOOST_TEST(status == 0);
  for (const char* library :
       {"libc6 (>=", "libtbb12 (>=", "libsqlite3-0 (>=", "libdnnl", "adduser"}) {
    BOOST_TEST(depends.find(library) != std::string::npos, library << " in " << depends);
  }
}

// As its user finds it: the program with the configuration that comes with it, once models are
// where that says.
BOOST_AUTO_TEST_CASE(the_configuration_that_comes_with_the_package_is_right_once_models_are_there) {
  const std::string& root = ThePackage().root;
  std::string config = Read(root + "/usr/share/nudge/nudge.json");
  config = Replaced(config, "/usr/share/nudge", root + "/usr/share/nudge");
  const std::string without = root + "/without.json", with = root + "/with.json";
  std::ofstream(without) << config;
  std::ofstream(with) << Replaced(Replaced(config, "/var/lib/nudge/models/", ModelFolder()),
                                  "/var/lib/nudge", root + "/var/lib/nudge");
  const auto [known, version] = RunCommand(root + "/usr/bin/nudge --version");
  const auto [stated, packaged] = RunCommand("dpkg-deb -f " + ThePackage().file + " Version");
  BOOST_TEST(known == 0);
  BOOST_TEST(stated == 0);
  BOOST_TEST(version == "nudge " + packaged);
  const std::string check = root + "/usr/bin/nudge check ";
  const auto [refused, missing] = RunCommand(check + without);
  BOOST_TEST(refused != 0, missing);
  BOOST_TEST(missing.find("/var/lib/nudge/models/") != std::string::npos, missing);
  BOOST_TEST(missing.find("unknown") == std::string::npos, missing);
  const auto [status, said] = RunCommand(check + with);
  BOOST_TEST(status == 0, said);
}

BOOST_AUTO_TEST_CASE(the_service_is_one_that_systemd_takes_and_may_do_little) {
  const std::string& root = ThePackage().root;
  const std::string unit = Read(root + "/usr/lib/systemd/system/nudge.service");
  BOOST_TEST(unit.find("ExecStart=/usr/bin/nudge serve ") != std::string::npos);
  const std::string path = root + "/nudge.service";
  std::ofstream(path) << Replaced(unit, "/usr/bin/nudge", root + "/usr/bin/nudge");
  const auto [status, said] = RunCommand("systemd-analyze verify " + path);
  BOOST_TEST(status == 0, said);
  BOOST_TEST(said.find("nudge.service:") == std::string::npos, said);  // "Unknown key", and such
  // Of 100, which is a service without any bound: tenths of what the command prints.
  const auto [exposed, exposure] =
      RunCommand("systemd-analyze security --no-pager --offline=true --threshold=15 " + path);
  BOOST_TEST(exposed == 0, exposure);
}

// Scripts of a package run as root.
BOOST_AUTO_TEST_CASE(the_script_that_makes_the_user_says_nothing_to_other_steps) {
  const TempFolder control;
  const auto [status, said] =
      RunCommand("dpkg-deb -e " + ThePackage().file + " " + control.path() + "/c");
  BOOST_TEST(status == 0, said);
  for (const char* step : {"abort-upgrade", "abort-remove"}) {
    const auto [ended, output] = RunCommand("sh -u " + control.path() + "/c/postinst " + step);
    BOOST_TEST(ended == 0);
    BOOST_TEST(output == "");
  }
}
