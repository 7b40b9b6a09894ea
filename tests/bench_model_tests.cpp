// labels: model
// The benchmark that docs/MEASUREMENTS.md shows runs as it stands there, with the real models.
#include <boost/test/unit_test.hpp>

#include <fstream>
#include <iterator>
#include <regex>

#include "tests/models.h"
#include "tests/run_command.h"

using nudge::testing::RunCommand;

namespace {

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  BOOST_TEST_REQUIRE(file.good(), path << " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_comparison_with_llama_cpp_runs_as_the_document_shows_it) {
  const std::string document = Content(NUDGE_SOURCE_DIR "/docs/MEASUREMENTS.md");
  std::smatch match;
  static const std::regex kCommand(R"(`nudge (bench train \S+ [^`]*--beside) \.cache/([^` ]+)`)");
  BOOST_REQUIRE(std::regex_search(document, match, kCommand));
  const auto [status, printed] = RunCommand(
      std::string("cd '") + NUDGE_SOURCE_DIR + "' && '" + NUDGE_BINARY + "' " + match[1].str() +
      " '" + nudge::testing::CacheFolder() + "/" + match[2].str() + "'");
  BOOST_REQUIRE_MESSAGE(status == 0, printed);
  // Speed and share of the limit of nudge, then both and a ratio of llama.cpp, twice.
  const std::string speed = R"( +\d+ +\d+ %)";
  const std::string both = speed + speed + R"( +\d+\.\d\d)" + speed + R"( +\d+\.\d\d\n)";
  for (const std::string row : {"generate: prompt of \\d+ tokens",
                                "generate: 64 tokens, one by one", "embed: text of \\d+ tokens"}) {
    BOOST_TEST(std::regex_search(printed, std::regex("  " + row + both)), printed);
  }
  BOOST_TEST(std::regex_search(printed, std::regex("generate: 64 tokens, one by one, an adapter" +
                                                   speed + "\\n")),
             printed);
}
