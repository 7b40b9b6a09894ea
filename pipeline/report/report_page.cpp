#include "pipeline/report/report_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "connectors/json_writer.h"

namespace nudge {
namespace {

constexpr size_t kPageAnswers = 50;
constexpr size_t kDrawnTenants = 4;
constexpr size_t kAverageOver = 8;  // lessons
constexpr size_t kPageChains = 256;
constexpr size_t kShortName = 40;  // bytes

constexpr char kHead[] = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nudge: report of a run</title>
<style>
:root { color-scheme: light dark; --text: #1d2530; --dim: #65707e; --line: #d5dae1; --page: #fff;
  --c0: #2563a8; --c1: #b4541a; --c2: #2d7d46; --c3: #7d4a9e; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe5ec; --dim: #93a0af; --line: #39424e;
  --page: #14181d; --c0: #6fa8e6; --c1: #e69560; --c2: #6fc38a; --c3: #bd8fdc; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; white-space: pre-wrap; }
th { color: var(--dim); font-weight: 500; overflow-wrap: normal; }
td.w, td.n { white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .85rem; overflow-wrap: anywhere; }
.dim { color: var(--dim); }
.charts { display: grid; gap: 1.5rem 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font-size: 12px; } svg .axis { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 3; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
svg .each { stroke-width: 1.5; opacity: .6; }
@media (max-width: 44rem) {
  body { margin: 1rem auto; } svg text { font-size: 16px; }
  .stack tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .stack tr.head { display: none; }
  .stack td, .stack td.n { display: block; padding: .1rem 0; border: 0; text-align: left; }
  .stack td.w:first-child { color: var(--dim); }
  .stack td[data-name]::before { content: attr(data-name) ": "; color: var(--dim); }
}
</style>
</head>
<body>
)html";

std::string Cell(std::string_view text, bool number = false) {
  return (number ? "<td class=\"n\">" : "<td>") + EscapeHtml(text) + "</td>";
}

// Of a table that narrow screens show as one column, each value behind the name of its column.
std::string StackedCell(std::string_view column, std::string_view text) {
  return "<td data-name=\"" + EscapeHtml(column) + "\">" + EscapeHtml(text) + "</td>";
}

std::string NumberCell(std::string_view column, int64_t number) {
  return "<td class=\"n\" data-name=\"" + EscapeHtml(column) + "\">" + std::to_string(number) +
         "</td>";
}

// The same for a name: on one line, but where others made it too long for that.
std::string NameCell(std::string_view column, std::string_view text) {
  return std::string("<td") + (text.size() <= kShortName ? " class=\"w\"" : "") +
         (column.empty() ? "" : " data-name=\"" + EscapeHtml(column) + "\"") + ">" +
         EscapeHtml(text) + "</td>";
}

std::string HeadCell(std::string_view text, bool number = false) {
  return (number ? "<th class=\"n\">" : "<th>") + EscapeHtml(text) + "</th>";
}

std::string Heading(std::string_view text) {
  return "<h2>" + EscapeHtml(text) + "</h2>\n";
}

std::string Paragraph(std::string_view text) {
  return "<p>" + EscapeHtml(text) + "</p>\n";
}

// ---- Curves -------------------------------------------------------------------------------------

struct Point {
  double x = 0;
  double y = 0;
};

struct Series {
  std::string name;
  std::vector<Point> points;
};

// Mean of each point and up to kAverageOver - 1 before it.
std::vector<Point> MovingAverage(const std::vector<Point>& points) {
  std::vector<Point> means;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t count = std::min(i + 1, kAverageOver);
    double sum = 0;
    for (size_t j = i + 1 - count; j <= i; ++j) sum += points[j].y;
    means.push_back({points[i].x, sum / static_cast<double>(count)});
  }
  return means;
}

// Maps values to a drawing of 520 x 220.
struct Frame {
  static constexpr double kLeft = 46, kRight = 510, kTop = 10, kBottom = 195;
  double x_low = std::numeric_limits<double>::max(), x_high = 0, y_high = 0;

  explicit Frame(const std::vector<Series>& all) {
    for (const Series& series : all) {
      for (const Point& point : series.points) {
        x_low = std::min(x_low, point.x);
        x_high = std::max(x_high, point.x);
        y_high = std::max(y_high, point.y);
      }
    }
    if (x_high <= x_low) x_high = x_low + 1;
    if (y_high <= 0) y_high = 1;
  }
  double X(double x) const { return kLeft + (kRight - kLeft) * (x - x_low) / (x_high - x_low); }
  double Y(double y) const { return kBottom - (kBottom - kTop) * std::max(y, 0.0) / y_high; }
};

std::string Polyline(const std::vector<Point>& points, const Frame& frame, size_t colour,
                     bool each) {
  std::string svg = each ? "<polyline class=\"each\" " : "<polyline ";
  svg += "style=\"stroke:var(--c" + std::to_string(colour) + ")\" points=\"";
  for (const Point& point : points) {
    svg += Fixed(frame.X(point.x), 1) + "," + Fixed(frame.Y(point.y), 1) + " ";
  }
  return svg + "\"/>\n";
}

std::string Chart(std::string_view title, const std::vector<Series>& all) {
  size_t points = 0;
  for (const Series& series : all) points += series.points.size();
  if (points == 0) return {};
  const Frame frame(all);
  std::string svg = "<figure><figcaption>" + EscapeHtml(title) +
                    "</figcaption>\n<svg viewBox=\"0 0 520 220\" role=\"img\" aria-label=\"" +
                    EscapeHtml(title) + "\">\n";
  for (const double share : {0.0, 0.5, 1.0}) {
    const std::string y = Fixed(frame.Y(share * frame.y_high), 1);
    svg += "<line class=\"axis\" x1=\"46\" x2=\"510\" y1=\"" + y + "\" y2=\"" + y + "\"/>";
    svg += "<text x=\"40\" y=\"" + y + "\" text-anchor=\"end\" dominant-baseline=\"middle\">" +
           Fixed(share * frame.y_high, frame.y_high < .1 ? 4 : 2) + "</text>\n";
  }
  svg += "<text x=\"46\" y=\"212\">step " + Fixed(frame.x_low, 0) +
         "</text><text x=\"510\" y=\"212\" text-anchor=\"end\">step " + Fixed(frame.x_high, 0) +
         "</text>\n";
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].points.empty()) continue;
    svg += Polyline(all[i].points, frame, i, true);
    svg += Polyline(MovingAverage(all[i].points), frame, i, false);
  }
  return svg + "</svg></figure>\n";
}

std::string Curves(const std::map<TenantId, std::vector<CurvePoint>>& curves) {
  std::vector<std::pair<TenantId, const std::vector<CurvePoint>*>> tenants;
  for (const auto& [tenant, curve] : curves) tenants.emplace_back(tenant, &curve);
  std::stable_sort(tenants.begin(), tenants.end(), [](const auto& a, const auto& b) {
    return a.second->size() > b.second->size();
  });
  const size_t all = tenants.size();
  tenants.resize(std::min(all, kDrawnTenants));
  std::vector<Series> before;
  std::vector<Series> loss;
  std::vector<Series> kl;
  std::string legend;
  for (const auto& [tenant, curve] : tenants) {
    legend += " <span style=\"color:var(--c" + std::to_string(before.size()) + ")\">&#9632; " +
              EscapeHtml(tenant) + "</span>";
    for (std::vector<Series>* list : {&before, &loss, &kl}) list->push_back({tenant, {}});
    for (const CurvePoint& point : *curve) {
      const auto step = static_cast<double>(point.step);
      before.back().points.push_back({step, point.nll_before});
      if (point.loss) loss.back().points.push_back({step, *point.loss});
      if (point.kl) kl.back().points.push_back({step, *point.kl});
    }
  }
  std::string html = Heading("Learning");
  if (before.empty()) return html + Paragraph("No lesson had a loss to draw.");
  html += "<p class=\"dim\">Thin: each lesson. Thick: mean of the last " +
          std::to_string(kAverageOver) + "." + legend;
  if (all > kDrawnTenants) html += " and " + std::to_string(all - kDrawnTenants) + " more tenants";
  html += "</p>\n<div class=\"charts\">\n";
  html += Chart("Before the lesson: NLL of its target, nats per token", before);
  html += Chart("Loss of the lesson's step", loss);
  html += Chart("Anchors: KL from the base model, nats per token", kl);
  return html + "</div>\n";
}

// ---- Tables -------------------------------------------------------------------------------------

std::string CountsTable(const RunCounts& counts) {
  std::string html = "<table class=\"stack\">\n";
  const auto row = [&](std::string_view name, std::string_view value) {
    html += "<tr>" + NameCell({}, name) + Cell(value) + "</tr>\n";
  };
  row("outcomes", Counted(counts.answers, "answer") + ", " + Counted(counts.receipts, "receipt") +
                      " (" + Counted(counts.duplicates, "duplicate") + "), " +
                      Counted(counts.dead_letters, "dead letter"));
  row("retrieval", Counted(counts.documents, "document") + ", " +
                       Counted(counts.chunks_added, "chunk") + " indexed; " +
                       Counted(counts.cited, "answer") + " with citations");
  std::string arms;
  for (const auto& [arm, count] : counts.answers_by_arm) {
    arms += (arms.empty() ? "" : "\n") + arm + ": " + Counted(count, "answer");
  }
  row("prompt", arms);
  row("cache", Counted(counts.cache_hits, "hit"));
  row("adapter", Counted(counts.lessons_accepted, "lesson") + " accepted, " +
                     std::to_string(counts.lessons_refused) + " refused, " +
                     std::to_string(counts.lessons_failed) + " failed; " +
                     Counted(counts.other_changes, "other change") + "; " +
                     Counted(counts.versions, "version") + " made");
  row("snapshots", std::to_string(counts.snapshots) +
                       (counts.last_snapshot.empty() ? "" : ", last " + counts.last_snapshot));
  return html + "</table>\n";
}

std::string NodeTable(const Summary& summary) {
  const auto rows = NodeRows(summary);
  if (rows.empty()) return {};
  std::string html = Heading("Where the time went") + "<table>\n<tr>" + HeadCell("node") +
                     HeadCell("calls", true) + HeadCell("mean", true) + HeadCell("longest", true) +
                     "</tr>\n";
  for (const NodeRow& row : rows) {
    html += "<tr>" + Cell(row.name) + Cell(std::to_string(row.calls), true) +
            Cell(row.Mean(), true) + Cell(row.Max(), true) + "</tr>\n";
  }
  return html + "</table>\n";
}

std::string HeldOutTables(const Summary& summary) {
  const auto scores = ScoreRows(summary);
  const auto answers = AnswerRows(summary, kPageAnswers);
  if (scores.empty() && answers.empty() && summary.held_out_note.empty()) return {};
  std::string html = Heading("Held-out questions, which nobody corrected");
  if (!summary.held_out_note.empty()) html += Paragraph(summary.held_out_note);
  if (!scores.empty()) {
    html += "<table>\n<tr>" + HeadCell("") + HeadCell("base", true) + HeadCell("adapter", true) +
            "</tr>\n";
    for (const ScoreRow& row : scores) {
      html += "<tr>" + Cell(row.name) + Cell(row.base, true) + Cell(row.adapter, true) + "</tr>\n";
    }
    html += "</table>\n";
  }
  if (answers.empty()) return html;
  html += "<h2>Before and after</h2>\n<table class=\"stack\">\n<tr class=\"head\">" +
          HeadCell("question") + HeadCell("base") + HeadCell("adapter") + "</tr>\n";
  const auto marked = [](std::string_view name, bool hit, const std::string& text) {
    return StackedCell(name, (hit ? "\u2713 " : "") + text);
  };
  for (const AnswerRow& row : answers) {
    html += "<tr>" + Cell(row.question->query) + marked("base", row.base_hit, row.base) +
            marked("adapter", row.adapter_hit, row.adapter) + "</tr>\n";
  }
  return html + "</table>\n<p class=\"dim\">\u2713 right: in style, with the fact.</p>\n";
}

std::string DeadLetterTable(const RunCounts& counts, const std::vector<DeadLetterRow>& rows) {
  if (counts.dead_letters == 0) return {};
  std::string html =
      Heading("Dead letters") +
      Paragraph(std::to_string(rows.size()) + " of " + Counted(counts.dead_letters, "dead letter") +
                ", with the beginning of each event.") +
      "<table class=\"stack\">\n<tr class=\"head\">" + HeadCell("partition", true) +
      HeadCell("offset", true) + HeadCell("tenant") + HeadCell("refused by") + HeadCell("why") +
      HeadCell("event") + "</tr>\n";
  for (const DeadLetterRow& row : rows) {
    html += "<tr>" + NumberCell("partition", row.partition) + NumberCell("offset", row.offset) +
            NameCell("tenant", row.tenant) + NameCell("refused by", row.where) +
            StackedCell("why", row.message + (row.remedy.empty() ? "" : "\n" + row.remedy)) +
            "<td><code>" + EscapeHtml(row.bytes) + "</code></td></tr>\n";
  }
  return html + "</table>\n";
}

std::string Identity(const Summary& summary) {
  std::string html =
      Heading("What repeats") + Paragraph(
                                    "The same events, configuration and model files give the same "
                                    "outcomes. Times on this page do not repeat.");
  size_t shown = 0;
  for (const auto& [partition, chain] : summary.chains) {
    if (shown++ == kPageChains) break;
    html += "<p>partition " + std::to_string(partition) + ", " + Counted(chain.events, "event") +
            ": <code>outcomes sha256 " + Hex(chain.hash) + "</code></p>\n";
  }
  return html;
}

}  // namespace

std::string Fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 352> buffer{};  // the longest double has 309 digits in front
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return {buffer.data(), static_cast<size_t>(length)};
}

std::string Time(double nanoseconds) {
  if (nanoseconds >= 1e9) return Fixed(nanoseconds * 1e-9, 2) + " s";
  if (nanoseconds >= 1e6) return Fixed(nanoseconds * 1e-6, 1) + " ms";
  return Fixed(nanoseconds * 1e-3, 1) + " us";
}

std::string Percent(double share) {
  return Fixed(share * 100, 0) + " %";
}

std::string Counted(uint64_t count, std::string_view noun) {
  return std::to_string(count) + " " + std::string(noun) + (count == 1 ? "" : "s");
}

std::string NodeRow::Mean() const {
  return calls == 0 ? "-" : Time(mean_ns);
}

std::string NodeRow::Max() const {
  return calls == 0 ? "-" : Time(max_ns);
}

std::vector<NodeRow> NodeRows(const Summary& summary) {
  std::vector<NodeRow> rows;
  const auto add = [&](const char* name, const NodeMetrics* node) {
    if (node == nullptr) return;
    const uint64_t calls = node->calls();
    const double mean =
        calls == 0 ? 0 : static_cast<double>(node->total_ns()) / static_cast<double>(calls);
    rows.push_back({name, calls, mean, static_cast<double>(node->max_ns())});
  };
  const GraphMetrics* graph = summary.graph;
  const auto of = [&](NodeMetrics GraphMetrics::*node) {
    return graph == nullptr ? nullptr : &(graph->*node);
  };
  add("decode", of(&GraphMetrics::decode));
  add("prepare", of(&GraphMetrics::prepare));
  add("embed", summary.embed);
  add("recall", of(&GraphMetrics::recall));
  add("index", of(&GraphMetrics::index));
  add("adapt", of(&GraphMetrics::adapt));
  add("prompt", of(&GraphMetrics::prompt));
  add("respond", of(&GraphMetrics::respond));
  add("generate", summary.generate);
  add("learn", summary.lessons);
  add("encode", of(&GraphMetrics::encode));
  add("emit", of(&GraphMetrics::emit));
  return rows;
}

std::vector<ScoreRow> ScoreRows(const Summary& summary) {
  if (summary.held_out == nullptr || (!summary.base && !summary.adapter)) return {};
  const auto row = [&](std::string name, const auto& value) {
    const auto of = [&](const std::optional<HeldOutScore>& score) {
      return score ? value(*score) : std::string("-");
    };
    return ScoreRow{std::move(name), of(summary.base), of(summary.adapter)};
  };
  const auto share = [](double HeldOutScore::*member) {
    return [member](const HeldOutScore& score) {
      return score.answers.empty() ? std::string("-") : Percent(score.*member);
    };
  };
  return {row("NLL of the ideal answer, nats per token",
              [](const HeldOutScore& score) { return Fixed(score.nll_per_token, 3); }),
          row("in the style: " + summary.held_out->style_name, share(&HeldOutScore::style_rate)),
          row("the right fact, in any words", share(&HeldOutScore::fact_rate)),
          row("in the style, with the right fact", share(&HeldOutScore::hit_rate))};
}

std::vector<AnswerRow> AnswerRows(const Summary& summary, size_t most) {
  if (summary.held_out == nullptr) return {};
  const HeldOut& held_out = *summary.held_out;
  const size_t count = held_out.questions.size();
  const auto answers_of = [&](const std::optional<HeldOutScore>& score) {
    return score && score->answers.size() == count ? score->answers : std::vector<std::string>{};
  };
  const std::vector<std::string> base = answers_of(summary.base);
  const std::vector<std::string> adapter = answers_of(summary.adapter);
  if (base.empty() && adapter.empty()) return {};
  const std::vector<bool> base_style = InStyle(held_out, base);
  const std::vector<bool> adapter_style = InStyle(held_out, adapter);
  std::vector<AnswerRow> rows;
  for (const bool showcase : {true, false}) {
    for (size_t i = 0; i < count && rows.size() < most; ++i) {
      const HeldOut::Question& question = held_out.questions[i];
      if (question.showcase != showcase) continue;
      AnswerRow row{&question};
      if (!base.empty()) {
        row.base = base[i];
        row.base_hit = base_style[i] && ContainsFact(question, base[i]);
      }
      if (!adapter.empty()) {
        row.adapter = adapter[i];
        row.adapter_hit = adapter_style[i] && ContainsFact(question, adapter[i]);
      }
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char character : ReplaceInvalidUtf8(text, "\uFFFD")) {
    switch (character) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default: {
        const auto byte = static_cast<unsigned char>(character);
        const bool control = (byte < 0x20 && character != '\n') || byte == 0x7f;
        if (control) {
          out += "\u00b7";
        } else {
          out += character;
        }
      }
    }
  }
  return out;
}

std::string ReportPage(const RunCounts& counts,
                       const std::map<TenantId, std::vector<CurvePoint>>& curves,
                       const std::vector<DeadLetterRow>& dead_letters, const Summary& summary) {
  std::string html = kHead;
  html += "<h1>What this run did</h1>\n" + Paragraph(Counted(counts.events, "event") + " in " +
                                                     Fixed(summary.elapsed_seconds, 1) + " s");
  if (!summary.model.empty()) html += Paragraph(summary.model);
  for (const std::string& note : summary.notes) html += Paragraph(note);
  html += CountsTable(counts);
  html += HeldOutTables(summary);
  html += Curves(curves);
  html += NodeTable(summary);
  html += DeadLetterTable(counts, dead_letters);
  html += Identity(summary);
  return html + "</body>\n</html>\n";
}

}  // namespace nudge
