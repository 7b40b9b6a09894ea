// labels: unit
// The folders depend on each other in one direction, and heavy headers stay inside one layer.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

struct File {
  std::string path;  // from the source folder
  std::vector<std::string> includes;
};

std::vector<File> Sources(const std::string& folder, bool recursive = true) {
  std::vector<File> files;
  const fs::path root = NUDGE_SOURCE_DIR;
  const auto add = [&](const fs::path& path) {
    if (path.extension() != ".h" && path.extension() != ".cpp") return;
    File file{fs::relative(path, root).string(), {}};
    std::ifstream in(path);
    static const std::regex kInclude(R"re(^#include ["<]([^">]+)[">])re");
    for (std::string line; std::getline(in, line);) {
      std::smatch match;
      if (std::regex_search(line, match, kInclude)) file.includes.push_back(match[1]);
    }
    files.push_back(std::move(file));
  };
  if (recursive) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) add(entry.path());
  } else {
    for (const auto& entry : fs::directory_iterator(root / folder)) add(entry.path());
  }
  return files;
}

bool StartsWithAny(const std::string& text, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

void ExpectNone(const std::vector<File>& files, const std::vector<std::string>& forbidden) {
  BOOST_TEST(!files.empty());
  for (const File& file : files) {
    for (const std::string& include : file.includes) {
      BOOST_TEST(!StartsWithAny(include, forbidden), file.path << " includes " << include);
    }
  }
}

std::vector<File> Headers(std::vector<File> files) {
  std::erase_if(files, [](const File& file) { return !file.path.ends_with(".h"); });
  return files;
}

const std::vector<std::string> kTbb = {"tbb/", "oneapi/"};
const std::vector<std::string> kJson = {"nlohmann/", "simdjson"};
const std::vector<std::string> kKafka = {"librdkafka/"};
const std::vector<std::string> kModels = {"llama", "ggml", "gguf.h", "oneapi/dnnl", "dnnl"};
const std::vector<std::string> kWeb = {"httplib", "prometheus/"};
const std::vector<std::string> kThreads = {"thread", "mutex", "condition_variable", "future"};

}  // namespace

BOOST_AUTO_TEST_CASE(stages_are_pure) {
  const auto files = Sources("stages", false);
  for (const auto& forbidden : {kTbb, kJson, kKafka, kModels, kThreads}) {
    ExpectNone(files, forbidden);
  }
  ExpectNone(files, {"stages/model/", "connectors/", "pipeline/"});
}

BOOST_AUTO_TEST_CASE(models_know_neither_connectors_nor_the_pipeline) {
  const auto files = Sources("stages/model");
  ExpectNone(files, kKafka);
  ExpectNone(files, {"oneapi/tbb", "tbb/", "connectors/", "pipeline/"});
}

BOOST_AUTO_TEST_CASE(connectors_know_neither_models_nor_the_pipeline) {
  const auto files = Sources("connectors");
  for (const auto& forbidden : {kTbb, kModels}) ExpectNone(files, forbidden);
  ExpectNone(files, {"stages/model/", "pipeline/"});
}

BOOST_AUTO_TEST_CASE(the_pipeline_leaves_models_json_and_kafka_to_their_layers) {
  const auto files = Sources("pipeline");
  ExpectNone(files, kKafka);
  ExpectNone(files, {"llama", "ggml", "gguf.h", "oneapi/dnnl", "dnnl"});
}

BOOST_AUTO_TEST_CASE(heavy_headers_stay_out_of_headers) {
  for (const char* folder : {"stages", "connectors", "pipeline"}) {
    const auto files = Headers(Sources(folder));
    for (const auto& forbidden : {kTbb, kJson, kKafka, kModels, kWeb}) ExpectNone(files, forbidden);
  }
}

BOOST_AUTO_TEST_CASE(only_the_graph_knows_tbb) {
  for (const File& file : Sources("pipeline")) {
    for (const std::string& include : file.includes) {
      if (StartsWithAny(include, kTbb)) BOOST_TEST(file.path == "pipeline/graph.cpp");
    }
  }
}

BOOST_AUTO_TEST_CASE(only_the_monitor_knows_http_and_only_the_view_prometheus) {
  for (const char* folder : {"stages", "connectors", "pipeline"}) {
    for (const File& file : Sources(folder)) {
      for (const std::string& include : file.includes) {
        if (include == "httplib.h") BOOST_TEST(file.path == "pipeline/monitor.cpp");
        if (include.starts_with("prometheus/")) BOOST_TEST(file.path == "pipeline/run_view.cpp");
      }
    }
  }
}
