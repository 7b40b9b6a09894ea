// A command of the shell, run by a test.
#pragma once

#include <boost/test/unit_test.hpp>

#include <cstdio>
#include <string>
#include <utility>

namespace nudge::testing {

// Its status as wait() gives it, and what it wrote to standard output and error. It has no input.
inline std::pair<int, std::string> RunCommand(const std::string& command) {
  std::FILE* pipe = popen((command + " </dev/null 2>&1").c_str(), "r");
  BOOST_REQUIRE(pipe != nullptr);
  std::string output;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) output.push_back(static_cast<char>(c));
  return {pclose(pipe), output};
}

}  // namespace nudge::testing
