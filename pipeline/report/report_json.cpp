#include <nlohmann/json.hpp>

#include "pipeline/report/report_page.h"

namespace nudge {
namespace {

using Json = nlohmann::ordered_json;

Json CountsJson(const RunCounts& counts) {
  return {{"events", counts.events},
          {"answers", counts.answers},
          {"answers_by_arm", counts.answers_by_arm},
          {"cache_hits", counts.cache_hits},
          {"cited", counts.cited},
          {"receipts", counts.receipts},
          {"duplicates", counts.duplicates},
          {"dead_letters", counts.dead_letters},
          {"dead_by_code", counts.dead_by_code},
          {"unreadable", counts.unreadable},
          {"documents", counts.documents},
          {"chunks_added", counts.chunks_added},
          {"lessons_accepted", counts.lessons_accepted},
          {"lessons_refused", counts.lessons_refused},
          {"lessons_failed", counts.lessons_failed},
          {"other_changes", counts.other_changes},
          {"versions", counts.versions},
          {"snapshots", counts.snapshots}};
}

Json NodesJson(const Summary& summary) {
  Json nodes = Json::array();
  for (const NodeRow& row : NodeRows(summary)) {
    const auto seconds = [&](double ns) { return row.calls == 0 ? Json() : Json(ns * 1e-9); };
    nodes.push_back({{"name", row.name},
                     {"calls", row.calls},
                     {"mean_seconds", seconds(row.mean_ns)},
                     {"max_seconds", seconds(row.max_ns)}});
  }
  return nodes;
}

Json ScoreJson(const std::optional<HeldOutScore>& score) {
  if (!score) return nullptr;
  const auto share = [&](double value) { return score->answers.empty() ? Json() : Json(value); };
  return {{"nll_per_token", score->nll_per_token},
          {"style_rate", share(score->style_rate)},
          {"fact_rate", share(score->fact_rate)},
          {"hit_rate", share(score->hit_rate)}};
}

Json HeldOutJson(const Summary& summary) {
  if (summary.held_out == nullptr) return nullptr;
  return {{"questions", summary.held_out->questions.size()},
          {"style", summary.held_out->style_name},
          {"base", ScoreJson(summary.base)},
          {"adapter", ScoreJson(summary.adapter)}};
}

}  // namespace

std::string ReportJson(const RunCounts& counts, const Summary& summary) {
  Json chains = Json::array();
  for (const auto& [partition, chain] : summary.chains) {
    chains.push_back(
        {{"partition", partition}, {"events", chain.events}, {"sha256", Hex(chain.hash)}});
  }
  const Json json = {{"format", 1},
                     {"model", summary.model},
                     {"elapsed_seconds", summary.elapsed_seconds},
                     {"counts", CountsJson(counts)},
                     {"nodes", NodesJson(summary)},
                     {"held_out", HeldOutJson(summary)},
                     {"held_out_note", summary.held_out_note},
                     {"chains", std::move(chains)},
                     {"snapshot_folder", summary.snapshot_folder},
                     {"last_snapshot", counts.last_snapshot}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace nudge
