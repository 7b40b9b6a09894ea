// A small world for tests, and what they change in it.
#pragma once

#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

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

}  // namespace nudge::testing
