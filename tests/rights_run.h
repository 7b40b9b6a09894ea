// A log run from its bytes to its outcomes on the template backend, with the chats that were shown.
// For suites that look whether somebody gets to see what is not for them.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/model/log_trial.h"

namespace nudge::testing {

using Json = nlohmann::json;

inline std::string EventLine(const std::string& id, const std::string& type,
                             const std::string& user, const Json& data) {
  return Json{{"specversion", "1.0"}, {"id", id},     {"source", "/s"}, {"type", "nudge." + type},
              {"tenant", "acme"},     {"user", user}, {"data", data}}
      .dump();
}

inline std::string Question(const std::string& id, const std::string& user, const std::string& text,
                            const std::vector<std::string>& groups = {},
                            Json more = Json::object()) {
  more["text"] = text;
  if (!groups.empty()) more["groups"] = groups;
  return EventLine(id, "query", user, more);
}

inline std::string Page(const std::string& id, const std::string& text,
                        Json more = Json::object()) {
  more["document_id"] = id;
  more["text"] = text;
  return EventLine("put-" + id + "-" + Sha256Hex(text + more.dump()).substr(0, 8),
                   "document.upsert", "ops", more);
}

inline std::string Corrected(const std::string& id, const std::string& user,
                             const std::string& query, const std::string& correction) {
  return EventLine(id, "feedback", user, {{"query_id", query}, {"correction", correction}});
}

// At 1 and at 4 threads, whose outcomes are the same.
class RightsRun {
 public:
  // more: members of the configuration, each behind a comma; the state goes to `state`, if given.
  explicit RightsRun(const std::vector<std::string>& lines, const std::string& more = "",
                     const std::string& state = "") {
    const std::vector<std::string> once = Outcomes(lines, more, "", 4);
    const std::vector<std::string> bytes = Outcomes(lines, more, state, 1);
    BOOST_TEST((once == bytes));
    for (const std::string& line : bytes) {
      const Json outcome = Json::parse(line);
      at_[outcome["data"]["event"]["id"]].push_back(outcome);
    }
  }

  const Json& At(const std::string& id) const {
    BOOST_REQUIRE_MESSAGE(at_.contains(id), id);
    return at_.at(id).back();
  }
  std::string Text(const std::string& id) const { return At(id)["data"].value("text", ""); }
  std::string Summary(const std::string& id) const { return At(id)["data"].value("summary", ""); }
  std::string Message(const std::string& id) const { return At(id)["data"].value("message", ""); }
  std::string CacheWhy(const std::string& id) const { return At(id)["data"]["cache"]["why"]; }
  bool Hits(const std::string& id) const { return At(id)["data"]["cache"]["hit"]; }
  std::set<std::string> Cites(const std::string& id) const {
    std::set<std::string> cited;
    for (const Json& citation : At(id)["data"]["citations"]) cited.insert(citation["document_id"]);
    return cited;
  }
  // All that the model was shown for the answer, its own or the one that the cache gave.
  std::string Shown(const std::string& id) const {
    const auto chat = chats_.find(Text(id));
    BOOST_REQUIRE_MESSAGE(chat != chats_.end(), At(id).dump());
    std::string text;
    for (const ChatMessage& message : chat->second) text += message.text + "\n";
    return text;
  }
  // Whether a word is in what the model was shown, or anywhere in the outcome.
  bool Sees(const std::string& id, const std::string& word) const {
    const bool is_answer = At(id)["type"] == "nudge.response";
    return At(id).dump().find(word) != std::string::npos ||
           (is_answer && Shown(id).find(word) != std::string::npos);
  }

 private:
  std::vector<std::string> Outcomes(const std::vector<std::string>& lines, const std::string& more,
                                    const std::string& state, int threads) {
    Config config = ParseConfig(
        R"({"input":{"path":"-"},"output":{"folder":"out"},"model":{"backend":"template",)"
        R"("template_dimension":64},"prompt":{"few_shots":2,"few_shot_min_similarity":0.3,)"
        R"("corrections_as_examples":true},"checkpoint":{"enabled":)" +
            std::string(state.empty() ? "false" : "true,\"folder\":\"" + state + "\"") + "}" +
            more + "}",
        "");
    config.processor.graph.threads = threads;
    config.processor.executor.threads = static_cast<size_t>(threads);
    const std::unique_ptr<Backend> backend = MakeBackend(config);
    model::WatchingBackend watching(*backend, 0);
    MemorySource source(lines);
    MemorySink sink;
    Processor processor(ToProcessorOptions(config), {}, watching, source, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
    for (const auto& [text, chat] : watching.chats()) chats_[text] = chat;
    return model::BytesOf(sink);
  }

  std::map<std::string, std::vector<Json>> at_;
  model::ShownChats chats_;
};

}  // namespace nudge::testing
