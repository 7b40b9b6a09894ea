// labels: model
// How often the right document is found for a follow-up question, with the real embedder: each
// question of follow_ups.jsonl is asked behind its turn and alone, by `nudge replay`, over the
// documents of a world.
#include <boost/test/unit_test.hpp>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models.h"
#include "run_command.h"
#include "temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

using Json = nlohmann::json;

std::string EventOf(const std::string& type, const std::string& id, const Json& data) {
  return Json{{"specversion", "1.0"},  {"id", id},
              {"source", "/test"},     {"type", "nudge." + type},
              {"tenant", "larkfield"}, {"data", data}}
             .dump() +
         "\n";
}

std::vector<Json> Lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

// Of so many questions, for how many the right document was found first, and at all.
struct Hits {
  int questions = 0;
  int first = 0;
  int found = 0;
};

std::string Text(const Hits& hits) {
  return std::to_string(hits.first) + " first and " + std::to_string(hits.found) + " found of " +
         std::to_string(hits.questions);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_follow_up_finds_its_document_by_the_turn_before_it) {
  ModelPath();
  const TempFolder folder;
  const std::vector<Json> questions = Lines(NUDGE_SOURCE_DIR "/tests/follow_ups.jsonl");
  BOOST_REQUIRE(questions.size() == 30U);
  const Json world =
      Json::parse(std::ifstream(NUDGE_SOURCE_DIR "/configs/worlds/house_style.json"));
  {
    std::ofstream events(folder.path() + "/events.jsonl");
    for (const Json& document : world["documents"]) {
      events << EventOf("document.upsert", document["id"],
                        {{"document_id", document["id"]},
                         {"title", document["title"]},
                         {"text", document["text"]}});
    }
    for (size_t i = 0; i < questions.size(); ++i) {
      Json data = {{"text", questions[i]["text"]}, {"options", {{"max_tokens", 1}}}};
      events << EventOf("query", "alone-" + std::to_string(i), data);
      data["messages"] = {{{"role", "user"}, {"content", questions[i]["before"]}},
                          {{"role", "assistant"}, {"content", questions[i]["answer"]}}};
      events << EventOf("query", "behind-" + std::to_string(i), data);
    }
    const Json config = {
        {"input", {{"path", "events.jsonl"}}},
        {"output", {{"folder", folder.path() + "/out"}}},
        {"model",
         {{"backend", "local"},
          {"language_model", ModelPath()},
          {"embedder", ModelFolder() + kE5Name},
          {"window_tokens", 1024}}},
        {"index", {{"passages", 2}}},
        {"adapt", {{"enabled", false}}},
    };
    std::ofstream(folder.path() + "/config.json") << config.dump();
  }
  const auto [status, said] =
      RunCommand(NUDGE_BINARY " replay '" + folder.path() + "/config.json' --fresh --quiet");
  BOOST_REQUIRE_MESSAGE(status == 0, said);

  Hits follow_ups_alone, follow_ups, alone, behind_others;
  size_t answers = 0;
  for (const Json& outcome : Lines(folder.path() + "/out/outcomes.jsonl")) {
    if (outcome["type"] != "nudge.response") continue;
    const std::string id = outcome["data"]["event"]["id"];
    const Json& question = questions[answers++ / 2];
    const bool is_behind = id.starts_with("behind-");
    Hits& hits = question.contains("stands_alone") ? (is_behind ? behind_others : alone)
                                                   : (is_behind ? follow_ups : follow_ups_alone);
    ++hits.questions;
    const Json& citations = outcome["data"]["citations"];
    bool found = false;
    for (const Json& citation : citations) {
      found = found || citation["document_id"] == question["document"];
    }
    const bool first = !citations.empty() && citations[0]["document_id"] == question["document"];
    hits.found += found ? 1 : 0;
    hits.first += first ? 1 : 0;
    if (!found) BOOST_TEST_MESSAGE(id << " finds " << citations.dump() << ", " << question.dump());
  }
  BOOST_TEST(answers == 60U);
  BOOST_TEST_MESSAGE("follow-ups by themselves: " << Text(follow_ups_alone));
  BOOST_TEST_MESSAGE("follow-ups by the rule: " << Text(follow_ups));
  BOOST_TEST_MESSAGE("questions that stand alone, by themselves: " << Text(alone));
  BOOST_TEST_MESSAGE("questions that stand alone, by the rule: " << Text(behind_others));
  BOOST_TEST(follow_ups.questions == 20);
  BOOST_TEST(follow_ups.found > follow_ups_alone.found);
  BOOST_TEST(behind_others.found == alone.found);
  BOOST_TEST(behind_others.first == alone.first);
}
