// labels: unit
// The log of a live run is one line an event, with time and level, as text or as JSON.
#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "pipeline/observe/log_sink.h"
#include "stages/log.h"
#include "tests/temp_folder.h"

using namespace nudge;

namespace {

// What is written to standard error while `body` runs, line by line.
template <class Body>
std::vector<std::string> Said(Body&& body) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/stderr";
  std::fflush(stderr);
  const int kept = dup(STDERR_FILENO);
  std::FILE* file = std::fopen(path.c_str(), "w");
  BOOST_REQUIRE(file != nullptr);
  dup2(fileno(file), STDERR_FILENO);
  body();
  std::fflush(stderr);
  dup2(kept, STDERR_FILENO);
  std::fclose(file);
  close(kept);
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

constexpr char kTime[] = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)";

struct PlainAgain {
  ~PlainAgain() { SetLogSink(nullptr); }
};

}  // namespace

BOOST_AUTO_TEST_CASE(without_a_log_a_line_is_the_programs_name_and_the_message) {
  const auto lines = Said([] {
    Log(LogLevel::kDebug, "not shown");
    Log(LogLevel::kWarning, "a disk is full");
  });
  BOOST_TEST_REQUIRE(lines.size() == 1U);
  BOOST_TEST(lines[0] == "nudge: a disk is full");
}

BOOST_FIXTURE_TEST_CASE(a_line_of_text_has_time_level_and_message_and_what_is_below_is_left_out,
                        PlainAgain) {
  const auto lines = Said([] {
    OpenLog({"warning", "text"});
    Log(LogLevel::kInfo, "left out");
    Log(LogLevel::kWarning, "two\nlines {} \"quoted\"");
    Log(LogLevel::kError, "the end");
  });
  BOOST_TEST_REQUIRE(lines.size() == 2U);
  const std::regex first(std::string(kTime) + R"( warning two lines \{\} "quoted")");
  BOOST_TEST(std::regex_match(lines[0], first), lines[0]);
  BOOST_TEST(std::regex_match(lines[1], std::regex(std::string(kTime) + " error the end")),
             lines[1]);
}

BOOST_FIXTURE_TEST_CASE(a_line_of_json_is_an_object_whatever_the_message_holds, PlainAgain) {
  const std::string message = "a \"quote\", a \\, a\nline and \xff no UTF-8";
  const auto lines = Said([&] {
    OpenLog({"debug", "json"});
    Log(LogLevel::kDebug, message);
  });
  BOOST_TEST_REQUIRE(lines.size() == 1U);
  const std::regex shape(
      R"(\{"time":")" + std::string(kTime) +
      R"(","level":"debug","message":"a \\"quote\\", a \\\\, a\\nline and .*"\})");
  BOOST_TEST(std::regex_match(lines[0], shape), lines[0]);
}
