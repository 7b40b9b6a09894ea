// labels: model
// The benchmarks that documents show run as they stand there: with the real models, and with one of
// random weights that is made for the run, of which a layer of a smaller one is enough here.
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

BOOST_AUTO_TEST_CASE(a_named_shape_is_measured_with_random_weights_and_no_configuration) {
  std::smatch match;
  const std::string document = Content(NUDGE_SOURCE_DIR "/docs/MEASUREMENTS.md");
  static const std::regex kCommand(R"(nudge bench train --shape \S+ ([^`]*)`)");
  BOOST_REQUIRE(std::regex_search(document, match, kCommand));
  const auto [status, printed] =
      RunCommand(std::string("'") + NUDGE_BINARY +
                 "' bench train --shape smollm2-135m --layers 1 " + match[1].str());
  BOOST_REQUIRE_MESSAGE(status == 0, printed);
  BOOST_TEST(std::regex_search(printed, std::regex("\n +128 +2 +\\d+\\.\\d")), printed);
  // No row has one thread: its limit is measured all the same.
  BOOST_TEST(std::regex_search(printed, std::regex("limits of one thread: [1-9]")), printed);
  BOOST_TEST(std::regex_search(printed, std::regex("generate: 64 tokens, one by one +\\d")),
             printed);
}

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
