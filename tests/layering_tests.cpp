// labels: unit
// The folders depend on each other in one direction, and heavy headers stay inside one of them.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// Every folder with sources, and the folders whose headers it may include, itself left out. A
// folder stands below all that it may use, so that no two can use each other.
struct Layer {
  std::string folder;
  std::vector<std::string> uses;
};
const std::vector<Layer> kLayers = {
    {"stages", {}},
    {"stages/model/trainer", {"stages"}},
    {"stages/model/adapters", {"stages", "stages/model/trainer"}},
    {"stages/model/learn", {"stages", "stages/model/trainer", "stages/model/adapters"}},
    {"stages/model/engine", {"stages", "stages/model/trainer"}},
    {"stages/model/serve", {"stages"}},
    {"stages/model/remote", {"stages"}},
    {"stages/model",
     {"stages", "stages/model/trainer", "stages/model/adapters", "stages/model/engine",
      "stages/model/learn", "stages/model/serve", "stages/model/remote"}},
    {"connectors", {"stages"}},
    {"connectors/web/module",
     {"stages", "stages/model/trainer", "stages/model/engine", "stages/model/adapters",
      "stages/model/learn", "stages/model/serve"}},
    {"connectors/log", {"stages", "connectors"}},
    {"connectors/http", {"stages", "connectors"}},
    {"pipeline/observe", {"stages", "connectors"}},
    {"pipeline/state", {"stages", "pipeline/observe"}},
    {"pipeline",
     {"stages", "stages/model/trainer", "stages/model/learn", "stages/model", "connectors",
      "pipeline/observe", "pipeline/state"}},
    {"pipeline/report", {"stages", "stages/model", "connectors", "pipeline"}},
    {"pipeline/serve",
     {"stages", "stages/model/adapters", "stages/model/remote", "connectors", "connectors/log",
      "connectors/http", "pipeline/observe", "pipeline/state", "pipeline"}},
    {"pipeline/config",
     {"stages", "stages/model", "connectors", "connectors/log", "connectors/http",
      "pipeline/observe", "pipeline", "pipeline/report", "pipeline/serve"}},
    {"pipeline/bench",
     {"stages", "stages/model/trainer", "stages/model/engine", "stages/model/learn",
      "stages/model/serve", "stages/model", "connectors", "connectors/log", "connectors/http",
      "pipeline", "pipeline/serve", "pipeline/config"}},
    {"pipeline/simulate",
     {"stages", "connectors", "pipeline", "pipeline/config", "pipeline/report"}},
    {"pipeline/commands",
     {"stages", "stages/model/trainer", "stages/model/adapters", "stages/model/serve",
      "stages/model", "connectors", "connectors/web/module", "pipeline/observe", "pipeline/state",
      "pipeline", "pipeline/config", "pipeline/report", "pipeline/bench", "pipeline/simulate",
      "connectors/log", "connectors/http", "pipeline/serve"}},
};

struct File {
  std::string path;  // from the source folder
  std::vector<std::string> includes;
};

std::string FolderOf(const std::string& path) {
  return fs::path(path).parent_path().string();
}

bool IsHeader(const File& file) {
  return file.path.ends_with(".h");
}

// Every source below stages, connectors and pipeline.
const std::vector<File>& Sources() {
  static const std::vector<File> kFiles = [] {
    std::vector<File> files;
    const fs::path root = NUDGE_SOURCE_DIR;
    static const std::regex kInclude(R"re(^#include ["<]([^">]+)[">])re");
    for (const char* folder : {"stages", "connectors", "pipeline"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        if (entry.path().extension() != ".h" && entry.path().extension() != ".cpp") continue;
        File file{fs::relative(entry.path(), root).string(), {}};
        std::ifstream in(entry.path());
        for (std::string line; std::getline(in, line);) {
          std::smatch match;
          if (std::regex_search(line, match, kInclude)) file.includes.push_back(match[1]);
        }
        files.push_back(std::move(file));
      }
    }
    return files;
  }();
  return kFiles;
}

bool StartsWithAny(const std::string& text, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

bool IsOurs(const std::string& include) {
  return StartsWithAny(include, {"stages/", "connectors/", "pipeline/"});
}

// No file but those that `may` says yes to includes one of these.
template <class May>
void ExpectOnlyIn(const std::vector<std::string>& includes, May&& may) {
  for (const File& file : Sources()) {
    for (const std::string& include : file.includes) {
      if (StartsWithAny(include, includes)) {
        BOOST_TEST(may(file.path), file.path << " includes " << include);
      }
    }
  }
}

const std::vector<std::string> kTbb = {"tbb/", "oneapi/tbb"};
const std::vector<std::string> kJson = {"nlohmann/", "simdjson"};
const std::vector<std::string> kKafka = {"librdkafka/"};
const std::vector<std::string> kModels = {"llama.h", "ggml", "gguf.h", "oneapi/dnnl", "dnnl"};
const std::vector<std::string> kWeb = {"httplib", "prometheus/", "spdlog/"};
const std::vector<std::string> kHtml = {"lexbor/"};
const std::vector<std::string> kSockets = {"boost/asio", "boost/beast"};
const std::vector<std::string> kThreads = {"thread", "mutex", "condition_variable", "future"};
// Not the stages' own: it lies there because all that have threads may use what lies there.
const std::string kLocks = "stages/guarded.h";

}  // namespace

BOOST_AUTO_TEST_CASE(every_folder_uses_only_those_below_it) {
  std::map<std::string, std::set<std::string>> may;
  for (const Layer& layer : kLayers) {
    for (const std::string& used : layer.uses) {
      BOOST_TEST(may.contains(used), layer.folder << " may use " << used << ", which is not below");
    }
    may[layer.folder] = {layer.uses.begin(), layer.uses.end()};
  }
  std::map<std::string, std::set<std::string>> found;
  for (const File& file : Sources()) {
    const std::string folder = FolderOf(file.path);
    BOOST_TEST(may.contains(folder), folder << " is in no layer");
    for (const std::string& include : file.includes) {
      if (!IsOurs(include) || FolderOf(include) == folder) continue;
      found[folder].insert(FolderOf(include));
      BOOST_TEST(may[folder].contains(FolderOf(include)), file.path << " includes " << include);
    }
  }
  for (const Layer& layer : kLayers) {
    std::string arrows = layer.folder + " ->";
    for (const std::string& used : found[layer.folder]) arrows += ' ' + used;
    BOOST_TEST_MESSAGE(arrows);
    for (const std::string& used : layer.uses) {
      BOOST_TEST(found[layer.folder].contains(used),
                 layer.folder << " does not use " << used << ": the table need not allow it");
    }
  }
}

BOOST_AUTO_TEST_CASE(the_trainer_needs_nothing_but_itself_its_products_and_ggmls_files) {
  for (const File& file : Sources()) {
    if (FolderOf(file.path) != "stages/model/trainer") continue;
    for (const std::string& include : file.includes) {
      const bool ours =
          include.starts_with("stages/model/trainer/") || include == "stages/result.h";
      BOOST_TEST((ours || !IsOurs(include)), file.path << " includes " << include);
      BOOST_TEST(!StartsWithAny(include, {"nlohmann/", "openssl/", "llama"}),
                 file.path << " includes " << include);
    }
  }
}

BOOST_AUTO_TEST_CASE(stages_are_pure) {
  for (const File& file : Sources()) {
    if (FolderOf(file.path) != "stages" || file.path == kLocks) continue;
    for (const std::string& include : file.includes) {
      BOOST_TEST(include != kLocks, file.path << " includes " << include);
      for (const auto& heavy : {kTbb, kJson, kKafka, kHtml, kModels, kWeb, kSockets, kThreads}) {
        BOOST_TEST(!StartsWithAny(include, heavy), file.path << " includes " << include);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(each_heavy_library_stays_in_its_folders) {
  ExpectOnlyIn(kHtml, [](const std::string& path) { return FolderOf(path) == "connectors/http"; });
  ExpectOnlyIn(kKafka, [](const std::string& path) { return FolderOf(path) == "connectors"; });
  ExpectOnlyIn(kModels, [](const std::string& path) { return path.starts_with("stages/model/"); });
  ExpectOnlyIn(kTbb, [](const std::string& path) { return path == "pipeline/graph.cpp"; });
  ExpectOnlyIn({"Eigen/"}, [](const std::string& path) {
    return path == "stages/model/adapters/low_rank.cpp";
  });
  ExpectOnlyIn({"httplib"},
               [](const std::string& path) { return path == "pipeline/observe/monitor.cpp"; });
  ExpectOnlyIn(kSockets, [](const std::string& path) {
    return FolderOf(path) == "connectors/http" || path == "stages/model/remote/http_post.cpp";
  });
  ExpectOnlyIn({"prometheus/"},
               [](const std::string& path) { return path == "pipeline/observe/run_view.cpp"; });
  ExpectOnlyIn({"spdlog/"},
               [](const std::string& path) { return path == "pipeline/observe/log_sink.cpp"; });
  ExpectOnlyIn({"llama.h"},
               [](const std::string& path) { return FolderOf(path) == "stages/model/serve"; });
}

// Two types of one name in one program: the linker takes the inline functions of either for both.
BOOST_AUTO_TEST_CASE(no_two_headers_have_a_type_of_the_same_name) {
  static const std::regex kType(
      R"(^(?:struct|class|enum class) (?:[A-Z_]+\([^)]*\) )?(\w+)(?: final)?(?: :.*)? \{)");
  static const std::regex kNamespace(R"(^namespace (nudge\S*) \{)");
  std::map<std::string, std::string> first;
  for (const File& file : Sources()) {
    if (!IsHeader(file)) continue;
    std::ifstream in(std::filesystem::path(NUDGE_SOURCE_DIR) / file.path);
    std::string space;
    for (std::string line; std::getline(in, line);) {
      std::smatch match;
      if (std::regex_search(line, match, kNamespace)) space = match[1];
      if (line == "namespace keys {") space = "nudge::keys";
      if (!std::regex_search(line, match, kType)) continue;
      const std::string name = space + "::" + match[1].str();
      const auto [other, is_new] = first.emplace(name, file.path);
      BOOST_TEST(is_new, name << " is in " << other->second << " and in " << file.path);
    }
  }
  BOOST_TEST(first.size() > 200U);
}

// But of those that only sources of their own folder include: they spread nothing.
BOOST_AUTO_TEST_CASE(heavy_headers_stay_out_of_headers_that_others_include) {
  const std::set<std::string> kept = {"connectors/http/session.h", "connectors/http/tls_files.h",
                                      "connectors/http/wire.h"};
  for (const File& file : Sources()) {
    const bool is_kept = kept.contains(file.path);
    for (const std::string& include : file.includes) {
      if (kept.contains(include)) {
        const bool is_inside = FolderOf(file.path) == FolderOf(include);
        BOOST_TEST((is_kept || (is_inside && !IsHeader(file))),
                   file.path << " includes " << include);
      }
      for (const auto& heavy : {kTbb, kJson, kKafka, kHtml, kModels, kWeb, kSockets}) {
        if (!IsHeader(file) || is_kept) continue;
        BOOST_TEST(!StartsWithAny(include, heavy), file.path << " includes " << include);
      }
    }
  }
}
