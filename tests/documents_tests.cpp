// labels: unit
// What docs/ARCHITECTURE.md names is there: its protocols are read beside the code.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The texts between backquotes, code blocks left out.
std::set<std::string> CodeSpans(const std::string& markdown) {
  const std::string text = std::regex_replace(markdown, std::regex("```[^`]*```"), "");
  std::set<std::string> spans;
  static const std::regex kSpan("`([^`\n]+)`");
  for (std::sregex_iterator i(text.begin(), text.end(), kSpan), end; i != end; ++i) {
    spans.insert((*i)[1]);
  }
  return spans;
}

std::string AllSources() {
  std::string all;
  for (const char* folder : {"stages", "connectors", "pipeline"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(NUDGE_SOURCE_DIR) / folder)) {
      if (entry.is_regular_file()) all += ReadAll(entry.path());
    }
  }
  return all;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_class_and_function_that_architecture_names_is_in_the_sources) {
  const std::string sources = AllSources();
  std::set<std::string> words;
  static const std::regex kWord(R"(\w+)");
  for (std::sregex_iterator i(sources.begin(), sources.end(), kWord), end; i != end; ++i) {
    words.insert(i->str());
  }
  size_t named = 0;
  static const std::regex kName(R"([A-Z]\w*(::~?\w+)+)");
  for (const std::string& span :
       CodeSpans(ReadAll(fs::path(NUDGE_SOURCE_DIR) / "docs/ARCHITECTURE.md"))) {
    if (!std::regex_match(span, kName)) continue;
    ++named;
    for (std::sregex_iterator i(span.begin(), span.end(), kWord), end; i != end; ++i) {
      BOOST_TEST(words.contains(i->str()), span << ": there is no " << i->str());
    }
    // A member is declared or defined by the last two names, or by the last one inside of its
    // class.
    const std::string last = span.substr(span.rfind(':') + 1);
    BOOST_TEST((sources.find(' ' + last + '(') != std::string::npos ||
                sources.find("::" + last + '(') != std::string::npos ||
                sources.find(' ' + last + ' ') != std::string::npos ||
                sources.find(' ' + last + '{') != std::string::npos),
               span << " is not declared");
  }
  BOOST_TEST(named >= 50U);
}

BOOST_AUTO_TEST_CASE(every_path_that_a_document_names_is_there) {
  const fs::path root = NUDGE_SOURCE_DIR;
  size_t named = 0;
  static const std::regex kPath(
      R"((stages|connectors|pipeline|tests|docs|configs|scripts)/[\w./-]+)");
  for (const char* document : {"README.md", "docs/ARCHITECTURE.md", "docs/MEASUREMENTS.md",
                               "docs/OPERATING.md", "docs/SNAPSHOTS.md", "docs/EVENTS.md",
                               "docs/HTTP.md", "docs/SIMULATION.md", "docs/BROWSER.md"}) {
    for (const std::string& span : CodeSpans(ReadAll(root / document))) {
      if (!std::regex_match(span, kPath)) continue;
      ++named;
      BOOST_TEST((fs::exists(root / span) || fs::exists(root / (span + ".h")) ||
                  fs::exists(root / (span + ".cpp"))),
                 document << " names " << span);
    }
  }
  BOOST_TEST(named >= 30U);
}
