// A small world for tests, and what they change in it.
#pragma once

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "connectors/file_source.h"
#include "connectors/memory.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/processor.h"
#include "pipeline/simulate/world.h"
#include "tests/temp_folder.h"

namespace nudge::testing {

inline nlohmann::json SmallWorld() {
  using Json = nlohmann::json;
  Json documents = Json::array();
  Json questions = Json::array();
  for (int i = 1; i <= 8; ++i) {
    const std::string number = std::to_string(i);
    documents.push_back(
        {{"id", "lamp-" + number}, {"text", "Lamp " + number + " costs " + number + "0 euros."}});
    questions.push_back({{"text", "What does lamp " + number + " cost?"},
                         {"document", "lamp-" + number},
                         {"keys", {number + "0 euros"}}});
  }
  return {{"tenant", "lamps"},
          {"system", "You sell lamps."},
          {"held_out", 3},
          {"lessons", 12},
          {"documents", documents},
          {"questions", questions},
          {"facts", {{{"text", "What is the capital of France?"}, {"keys", {"Paris"}}}}},
          {"forms",
           {{{"name", "short"},
             {"correction", "Only {key}!"},
             {"begins_with", "Only "},
             {"ends_with", "!"}}}},
          {"wanted", {{{"form", "short"}}}},
          {"users", {{{"name", "ana"}}, {{"name", "ben"}}}}};
}

inline World WorldOf(const nlohmann::json& json) {
  const TempFolder folder;
  const std::string path = folder.path() + "/lamps.json";
  std::ofstream(path) << json;
  return ReadWorld(path);
}

// The chain that a replay of a simulation's log ends in.
inline std::string ReplayedChain(Config config, const std::string& log, int threads) {
  const TempFolder folder;
  config.output.folder = folder.path();
  config.processor.graph.threads = threads;
  config.processor.executor.threads = static_cast<size_t>(threads);
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  FileSource source({.path = log});
  MemorySink sink;
  Processor processor(ToProcessorOptions(config), {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE(summary.ok());
  return Hex(summary->at(0).chain);
}

}  // namespace nudge::testing
