// labels: unit
// Messages and remedies name keys of the configuration that are there. Read from the sources: every
// literal that names a key is looked up among the configuration's fields.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/config/config_fields.h"

using namespace nudge;

namespace {

namespace fs = std::filesystem;

struct Literal {
  std::string file;
  std::string text;
};

// The string literals of a source, adjacent ones as one; those of comments and includes are none.
class Lexer {
 public:
  Lexer(std::string file, std::string_view source) : file_(std::move(file)), source_(source) {}

  std::vector<Literal> Run() {
    while (at_ < source_.size()) {
      const std::string_view rest = source_.substr(at_);
      const bool begins_line = at_ == 0 || source_[at_ - 1] == '\n';
      if (rest.starts_with("//") || (begins_line && rest.starts_with('#'))) {
        at_ += std::min(rest.find('\n'), rest.size());
      } else if (rest.starts_with("R\"")) {
        const std::string close = ")" + std::string(rest.substr(2, rest.find('(') - 2)) + "\"";
        const size_t open = rest.find('(') + 1;
        const size_t end = rest.find(close, open);
        Add(std::string(rest.substr(open, end - open)), end + close.size());
      } else if (rest.starts_with('"')) {
        const size_t end = EndOfQuoted(rest);
        Add(std::string(rest.substr(1, end - 2)), end);
      } else if (rest.starts_with('\'') && (at_ == 0 || std::isalnum(source_[at_ - 1]) == 0)) {
        at_ += EndOfQuoted(rest);
        joins_ = false;
      } else {
        joins_ = joins_ && std::isspace(rest.front()) != 0;
        ++at_;
      }
    }
    return std::move(literals_);
  }

 private:
  static size_t EndOfQuoted(std::string_view rest) {
    size_t end = 1;
    while (end < rest.size() && rest[end] != rest.front()) end += rest[end] == '\\' ? 2 : 1;
    return end + 1;
  }

  void Add(std::string text, size_t size) {
    if (joins_) {
      literals_.back().text += text;
    } else {
      literals_.push_back({file_, std::move(text)});
    }
    joins_ = true;
    at_ += size;
  }

  const std::string file_;
  const std::string_view source_;
  size_t at_ = 0;
  bool joins_ = false;  // the next literal is the last one's continuation
  std::vector<Literal> literals_;
};

std::vector<Literal> AllLiterals() {
  std::vector<Literal> all;
  const fs::path root = NUDGE_SOURCE_DIR;
  for (const char* const folder : {"stages", "connectors", "pipeline"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".cpp" && extension != ".h") continue;
      std::ifstream in(entry.path());
      const std::string source{std::istreambuf_iterator<char>(in), {}};
      const std::string file = fs::relative(entry.path(), root).string();
      const std::vector<Literal> literals = Lexer(file, source).Run();
      all.insert(all.end(), literals.begin(), literals.end());
    }
  }
  return all;
}

struct Keys {
  std::set<std::string> whole;     // limits.id_bytes
  std::set<std::string> last;      // id_bytes: of those with an underscore
  std::set<std::string> sections;  // limits; and the parts of a run, which have options
};

Keys AllKeys() {
  Keys keys{{},
            {},
            {"recall", "decode", "prepare", "index", "adapt", "prompt", "respond", "encode", "emit",
             "executor", "graph"}};
  Config config;
  for (const keys::Field& field : keys::FieldsOf(config)) {
    const std::string name(field.path);
    keys.whole.insert(name);
    const std::string last(keys::LastPart(name));
    if (last.find('_') != last.npos) keys.last.insert(last);
  }
  for (const keys::Section& section : keys::Sections()) keys.sections.emplace(section.name);
  return keys;
}

// Names of others that look like keys: a tensor's, librdkafka's.
const std::set<std::string> kOthers = {"output.weight", "log.queue"};

// What is wrong with a literal; empty: nothing.
std::string Wrong(const std::string& text, const Keys& keys) {
  static const std::regex kDotted(R"((^|[^\w./"-])([a-z]+)\.([a-z_0-9]+)(?![\w/(]|\.[a-z]))");
  for (std::sregex_iterator at(text.begin(), text.end(), kDotted), end; at != end; ++at) {
    const std::string key = (*at)[2].str() + "." + (*at)[3].str();
    const bool is_file = (*at)[3] == "h" || (*at)[3] == "json" || (*at)[3] == "cpp";
    if (is_file || kOthers.contains(key)) continue;
    const auto below = keys.whole.lower_bound(key + ".");
    const bool is_group = below != keys.whole.end() && below->starts_with(key + ".");
    if (keys.sections.contains((*at)[2]) && !keys.whole.contains(key) && !is_group) {
      return "no key " + key;
    }
  }
  static const std::regex kBare(
      R"((raise|lower|set|limit)( the limit)? ([a-z]+_[a-z_]+)(?![.\w]))");
  for (std::sregex_iterator at(text.begin(), text.end(), kBare), end; at != end; ++at) {
    if (keys.last.contains((*at)[3])) return "a key without its section: " + (*at)[3].str();
  }
  if (text.find("raise the limit") != text.npos) return "a limit that is not named";
  return "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_key_that_a_message_names_is_one_of_the_configuration) {
  const Keys keys = AllKeys();
  size_t named = 0;
  for (const Literal& literal : AllLiterals()) {
    const std::string wrong = Wrong(literal.text, keys);
    BOOST_TEST(wrong.empty(), literal.file << ": \"" << literal.text << "\": " << wrong);
    for (const std::string& key : keys.whole) {
      if (literal.text != key && literal.text.find(key) != std::string::npos) {
        ++named;
        break;
      }
    }
  }
  BOOST_TEST(named > 20u);  // the sources are read at all
}

// The codec puts the name of a limit behind its remedy: JsonReader::FailSize.
BOOST_AUTO_TEST_CASE(every_limit_that_the_codec_names_is_a_key) {
  const Keys keys = AllKeys();
  size_t named = 0;
  for (const Literal& literal : AllLiterals()) {
    if (!literal.file.starts_with("connectors/") && !literal.file.starts_with("stages/")) continue;
    const std::string whole = "limits." + literal.text;
    BOOST_TEST(!(literal.text.find('_') != std::string::npos && keys.whole.contains(whole)),
               literal.file << ": \"" << literal.text << "\" is " << whole);
    named += literal.file == "connectors/codec.cpp" && keys.whole.contains(literal.text) ? 1 : 0;
  }
  BOOST_TEST(named >= 9u);
}

BOOST_AUTO_TEST_CASE(a_message_that_names_no_key_is_found) {
  const Keys keys = AllKeys();
  BOOST_TEST(Wrong("raise recall.documents_per_tenant", keys) ==
             "no key recall.documents_per_tenant");
  BOOST_TEST(Wrong("delete documents, or raise limits.no_such_limit", keys) ==
             "no key limits.no_such_limit");
  BOOST_TEST(Wrong("shorten it, or raise the limit line_bytes", keys) ==
             "a key without its section: line_bytes");
  BOOST_TEST(Wrong("shorten it, or raise the limit in the configuration", keys) ==
             "a limit that is not named");
  BOOST_TEST(Wrong("raise limits.id_bytes, see pipeline/graph.h and nudge.prompt.upsert", keys) ==
             "");
  const std::vector<Literal> read =
      Lexer("x", "// \"no\"\n#include \"a.h\"\nf(\"one \"\n \"two\", '\"', \"3\", 1'000);").Run();
  BOOST_REQUIRE(read.size() == 2u);
  BOOST_TEST(read[0].text == "one two");
}
