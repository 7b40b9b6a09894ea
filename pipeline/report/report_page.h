// The parts that the faces of the report share, its page of HTML and its JSON. Pure functions, any
// thread.
//
//   RunCounts, curves, dead letters, Summary -> [ReportPage] -> HTML
//   RunCounts, Summary -> [ReportJson] -> JSON
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/report/report.h"

namespace nudge {

struct NodeRow {
  std::string name;
  uint64_t calls = 0;
  double mean_ns = 0;
  double max_ns = 0;

  std::string Mean() const;  // with its unit; "-" without calls
  std::string Max() const;
};
std::vector<NodeRow> NodeRows(const Summary& summary);

std::string Fixed(double value, int decimals);
std::string Percent(double share);
std::string Time(double nanoseconds);  // with its unit: s, ms or us

// Held-out measures, base and adapter beside each other; empty if nothing was measured.
struct ScoreRow {
  std::string name;
  std::string base;
  std::string adapter;
};
std::vector<ScoreRow> ScoreRows(const Summary& summary);

// An answer before and after, of the showcase questions first.
struct AnswerRow {
  const HeldOut::Question* question = nullptr;
  std::string base;
  std::string adapter;
  bool base_hit = false;  // in style, with the fact
  bool adapter_hit = false;
};
std::vector<AnswerRow> AnswerRows(const Summary& summary, size_t most);

// "3 answers", "1 answer".
std::string Counted(uint64_t count, std::string_view noun);

// Text for HTML: escaped, repaired to UTF-8, control characters shown as a dot.
std::string EscapeHtml(std::string_view text);

std::string ReportPage(const RunCounts& counts,
                       const std::map<TenantId, std::vector<CurvePoint>>& curves,
                       const std::vector<DeadLetterRow>& dead_letters, const Summary& summary);

// Ends with a newline. Durations are in seconds; what was not measured is null. The same counts,
// scores and chains for the same run, whatever the clock.
std::string ReportJson(const RunCounts& counts, const Summary& summary);

}  // namespace nudge
