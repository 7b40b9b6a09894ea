#include "pipeline/report/report.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <limits>
#include <ostream>
#include <string_view>
#include <utility>

#include "connectors/codec.h"
#include "connectors/json_writer.h"
#include "pipeline/report/report_page.h"
#include "stages/files.h"

namespace nudge {
namespace {

constexpr size_t kColumns = 100;
constexpr size_t kArms = 64;
constexpr size_t kCurves = 64;
constexpr size_t kCurvePoints = 4096;
constexpr size_t kDeadLetters = 50;
constexpr size_t kDeadLetterBytes = 200;
constexpr size_t kShownAnswers = 3;
constexpr size_t kShownChains = 4;
constexpr size_t kNoteLines = 5;
constexpr size_t kListLines = 3;
constexpr size_t kNameColumns = 14;

size_t ColumnsOf(UChar32 character) {
  if (u_getCombiningClass(character) != 0) return 0;
  const int width = u_getIntPropertyValue(character, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

// A text on one line of the terminal: controls (escape sequences among them) become spaces, what
// does not fit into `columns` becomes "...". `used`, if given, is the width.
std::string Fit(std::string_view text, size_t columns, size_t* used = nullptr) {
  const std::string clean = ReplaceInvalidUtf8(text, "?");
  const auto* bytes = reinterpret_cast<const uint8_t*>(clean.data());
  const auto length = static_cast<int32_t>(clean.size());
  std::string out;
  size_t width = 0;
  size_t cut = 0;  // of `out`, where "..." still fits behind
  size_t cut_width = 0;
  for (int32_t i = 0; i < length;) {
    const int32_t begin = i;
    UChar32 character = 0;
    U8_NEXT(bytes, i, length, character);
    const bool visible = u_isprint(character) != 0;
    const size_t more = visible ? ColumnsOf(character) : 1;
    if (width + more > columns) {
      out.resize(cut);
      out += "...";
      width = cut_width + 3;
      break;
    }
    out.append(visible ? std::string_view(clean).substr(static_cast<size_t>(begin),
                                                        static_cast<size_t>(i - begin))
                       : " ");
    width += more;
    if (width + 3 <= columns) {
      cut = out.size();
      cut_width = width;
    }
  }
  if (used != nullptr) *used = width;
  return out;
}

std::string Left(std::string_view text, size_t columns) {
  size_t used = 0;
  std::string out = Fit(text, columns, &used);
  return out.append(columns - used, ' ');
}

std::string Right(std::string_view text, size_t columns) {
  size_t used = 0;
  const std::string out = Fit(text, columns, &used);
  return std::string(columns - used, ' ') + out;
}

// "a 3", "b 1", ...: the most frequent first.
std::vector<std::string> Ranked(const std::map<std::string, uint64_t>& counts) {
  std::vector<std::pair<std::string, uint64_t>> ranked(counts.begin(), counts.end());
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> texts;
  for (const auto& [name, count] : ranked) texts.push_back(name + " " + std::to_string(count));
  return texts;
}

// A text of several lines on one: " / " where a line ended.
std::string OneLine(std::string_view text) {
  constexpr std::string_view kEnds = "\r\n";
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of(kEnds, begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (line.find_first_not_of(" \t") != std::string_view::npos) {
      if (!out.empty()) out += " / ";
      out += line;
    }
    begin = end + 1;
  }
  return out;
}

// The number in front of `noun`, as respond's receipts begin: "3 chunks indexed".
uint64_t LeadingCount(std::string_view summary, std::string_view noun) {
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(summary.data(), summary.data() + summary.size(), count);
  if (error != std::errc{}) return 0;
  return summary.substr(static_cast<size_t>(end - summary.data())).starts_with(noun) ? count : 0;
}

// The lines of a text wrapped at spaces; the second and later ones are indented.
std::vector<std::string> Wrapped(const std::string& text, size_t columns) {
  std::vector<std::string> lines;
  std::string line;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && line.size() + 1 + word.size() > columns) {
      lines.push_back(std::move(line));
      line = "  ";
    } else if (!line.empty()) {
      line += ' ';
    }
    line += word;
    begin = end + 1;
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

class Screen {
 public:
  explicit Screen(std::ostream& out) : out_(out) {}

  void Line(std::string_view text = {}) { out_ << Fit(text, kColumns) << '\n'; }

  // A path is there to be copied: whole, whatever its length.
  void Path(const std::string& path) {
    out_ << "  " << Fit(path, std::numeric_limits<size_t>::max() - 3) << '\n';
  }

  // "  name      a 3; b 1": wrapped between items, to at most kListLines lines and one that counts
  // the rest.
  void List(std::string_view name, const std::vector<std::string>& items) {
    std::string line = "  " + Left(name, kNameColumns - 2);
    size_t lines = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string item = items[i] + (i + 1 < items.size() ? ";" : "");
      if (line.size() > kNameColumns && line.size() + 1 + item.size() > kColumns) {
        Line(line);
        line = std::string(kNameColumns, ' ');
        if (++lines == kListLines) {
          Line(line + "and " + std::to_string(items.size() - i) + " more");
          return;
        }
      }
      line += (line.size() == kNameColumns ? "" : " ") + item;
    }
    Line(line);
  }

  void Overview(const RunCounts& counts, const Summary& summary) {
    const double seconds = summary.elapsed_seconds;
    Line(Counted(counts.events, "event") + " in " + Fixed(seconds, 1) + " s" +
         (seconds > 0 ? " (" + Fixed(static_cast<double>(counts.events) / seconds, 1) + " a second)"
                      : "") +
         ": " + Counted(counts.answers, "answer") + ", " + Counted(counts.receipts, "receipt") +
         (counts.duplicates > 0 ? " (" + Counted(counts.duplicates, "duplicate") + ")" : "") +
         ", " + Counted(counts.dead_letters, "dead letter"));
    if (counts.dead_letters > 0) List("refused", Ranked(counts.dead_by_code));
    if (counts.unreadable > 0) {
      Line("  " + Counted(counts.unreadable, "outcome") + " could not be read by the report");
    }
  }

  void Paths(const RunCounts& counts) {
    Line();
    Line("What each path did");
    Line("  retrieval   " + Counted(counts.documents, "document") + ", " +
         Counted(counts.chunks_added, "chunk") + " indexed; " + std::to_string(counts.cited) +
         " of " + Counted(counts.answers, "answer") + " cite a document");
    List("prompt", counts.answers_by_arm.empty()
                       ? std::vector<std::string>{"no answer, no arm chosen"}
                       : Ranked(counts.answers_by_arm));
    Line("  cache       " + std::to_string(counts.cache_hits) + " of " +
         Counted(counts.answers, "answer") + " given again without asking the model");
    Line("  adapter     " + Counted(counts.lessons_accepted, "lesson") + " accepted, " +
         std::to_string(counts.lessons_refused) + " refused, " +
         std::to_string(counts.lessons_failed) + " failed; " +
         Counted(counts.other_changes, "other change") + "; " +
         Counted(counts.versions, "version") + " made");
    Line("  snapshots   " + std::to_string(counts.snapshots) +
         (counts.last_snapshot.empty() ? "" : ", last " + counts.last_snapshot));
  }

  void Nodes(const Summary& summary) {
    const std::vector<NodeRow> rows = NodeRows(summary);
    if (rows.empty()) return;
    const auto cells = [](std::string_view name, std::string_view calls, std::string_view mean,
                          std::string_view max) {
      return "  " + Left(name, 10) + Right(calls, 9) + Right(mean, 11) + Right(max, 11);
    };
    const auto cell = [&](const NodeRow& row) {
      return cells(row.name, std::to_string(row.calls), row.Mean(), row.Max());
    };
    Line();
    const std::string head = cells("node", "calls", "mean", "max");
    Line(head + "    " + head);
    const size_t half = (rows.size() + 1) / 2;
    for (size_t i = 0; i < half; ++i) {
      Line(cell(rows[i]) + (i + half < rows.size() ? "    " + cell(rows[i + half]) : ""));
    }
  }

  void Answers(const Summary& summary) {
    const auto rows = AnswerRows(summary, std::min<size_t>(summary.show_answers, kShownAnswers));
    if (rows.empty()) return;
    Line();
    Line("Before and after, on questions that nobody corrected (* right: in style, with the fact)");
    for (const AnswerRow& row : rows) {
      Line("  " + OneLine(row.question->query));
      const auto answer = [&](bool hit, const char* name, const std::string& text) {
        Line(std::string(hit ? "  * " : "    ") + name + OneLine(text));
      };
      if (summary.base) answer(row.base_hit, "base     ", row.base);
      if (summary.adapter) answer(row.adapter_hit, "adapter  ", row.adapter);
    }
  }

  void Scores(const Summary& summary) {
    const auto rows = ScoreRows(summary);
    if (rows.empty() && summary.held_out_note.empty()) return;
    Line();
    if (!rows.empty()) {
      Line("  " + Left(Counted(summary.held_out->questions.size(), "held-out question"), 48) +
           Right("base", 12) + Right("adapter", 12));
    }
    for (const ScoreRow& row : rows) {
      Line("  " + Left(row.name, 48) + Right(row.base, 12) + Right(row.adapter, 12));
    }
    if (!summary.held_out_note.empty()) Line("  held-out: " + summary.held_out_note);
  }

  void Notes(const Summary& summary) {
    std::vector<std::string> notes;
    if (summary.generate != nullptr && summary.generate->calls() > 0) {
      notes.push_back(Time(static_cast<double>(summary.generate->total_ns()) /
                           static_cast<double>(summary.generate->calls())) +
                      " per answer, mean over " + Counted(summary.generate->calls(), "call") +
                      " of the model");
    }
    if (!summary.model.empty()) notes.push_back(summary.model);
    notes.insert(notes.end(), summary.notes.begin(), summary.notes.end());
    if (notes.empty()) return;
    Line();
    std::vector<std::string> lines;
    for (const std::string& note : notes) {
      for (std::string& line : Wrapped(note, kColumns - 4)) lines.push_back(std::move(line));
    }
    for (size_t i = 0; i < std::min(lines.size(), kNoteLines); ++i) Line("  " + lines[i]);
    if (lines.size() > kNoteLines) {
      Line("  (" + std::to_string(lines.size() - kNoteLines) + " more lines of notes)");
    }
  }

  void Files(const RunCounts& counts, const Summary& summary) {
    std::vector<std::string> paths;
    if (!summary.html.empty()) paths.push_back(summary.html);
    if (!summary.json.empty()) paths.push_back(summary.json);
    if (!summary.snapshot_folder.empty() && !counts.last_snapshot.empty()) {
      paths.push_back(std::filesystem::path(summary.snapshot_folder) / counts.last_snapshot);
    }
    if (paths.empty()) return;
    Line();
    Line(std::string("Files") + (summary.html.empty() ? "" : "; the page has the curves"));
    for (const std::string& path : paths) Path(path);
  }

  void Chains(const Summary& summary) {
    Line();
    if (summary.chains.size() > kShownChains) {
      Line("  the chains of the last " + std::to_string(kShownChains) + " of " +
           std::to_string(summary.chains.size()) + " partitions:");
    }
    const size_t skip =
        summary.chains.size() > kShownChains ? summary.chains.size() - kShownChains : 0;
    size_t i = 0;
    for (const auto& [partition, chain] : summary.chains) {
      if (i++ < skip) continue;
      Line("outcomes sha256 " + Hex(chain.hash) +
           (summary.chains.size() > 1 ? " partition " + std::to_string(partition) : ""));
    }
  }

 private:
  std::ostream& out_;
};

Error Unwritable(const std::string& path, const std::string& reason) {
  return {Code::kUnreadableFile, "report: cannot write " + path + ": " + reason,
          "check that folder and the space on its disk"};
}

// A reader sees all of it or none.
Result<Nothing> WriteFile(const std::string& path, const std::string& text) {
  Result<Nothing> written = MakeFolders(std::filesystem::path(path).parent_path().string());
  if (written.ok()) written = ReplaceFile(path, text);
  return written.ok() ? written : Unwritable(path, written.error().message);
}

}  // namespace

Report::Report(std::optional<uint64_t> total_events)
    : total_events_(total_events),
      start_(std::chrono::steady_clock::now()),
      terminal_(isatty(STDERR_FILENO) != 0) {}

// ---- What happens -------------------------------------------------------------------------------

void Report::OnOutcome(const OutcomeLine& line) {
  const Result<RecordedOutcome> recorded = DecodeOutcome(line.bytes);
  const MutexLock lock(mutex_);
  ++counts_.events;
  if (!recorded.ok()) {
    ++counts_.unreadable;
    return;
  }
  const Outcome& outcome = recorded->outcome;
  if (const auto* response = std::get_if<Response>(&outcome.what)) CountAnswer(*response);
  if (const auto* applied = std::get_if<Applied>(&outcome.what)) CountReceipt(outcome, *applied);
  if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) {
    CountDeadLetter(*recorded, *letter);
  }
  counts_.snapshots += outcome.snapshots.size();
  if (!outcome.snapshots.empty()) counts_.last_snapshot = outcome.snapshots.back().uri;
}

void Report::CountAnswer(const Response& response) {
  ++counts_.answers;
  if (response.cache_hit) ++counts_.cache_hits;
  if (!response.citations.empty()) ++counts_.cited;
  std::string arm = response.prompt_id + ", version " + std::to_string(response.prompt_version) +
                    ", " + response.decoding_name;
  auto& arms = counts_.answers_by_arm;
  if (arms.size() >= kArms && !arms.contains(arm)) arm = "other";
  ++arms[arm];
}

void Report::CountReceipt(const Outcome& outcome, const Applied& applied) {
  ++counts_.receipts;
  if (applied.makes_version) ++counts_.versions;
  if (applied.summary.starts_with("duplicate of event ")) {
    ++counts_.duplicates;
  } else if (outcome.type == "nudge.document.upsert") {
    ++counts_.documents;
    counts_.chunks_added += LeadingCount(applied.summary, " chunk");
  }
}

void Report::CountDeadLetter(const RecordedOutcome& recorded, const DeadLetter& letter) {
  ++counts_.dead_letters;
  const std::string where = letter.stage + ": " + std::string(Name(letter.error.code));
  ++counts_.dead_by_code[where];
  if (dead_letters_.size() == kDeadLetters) return;
  dead_letters_.push_back({recorded.partition, recorded.offset, recorded.outcome.tenant, where,
                           letter.error.message, letter.error.remedy,
                           letter.bytes.substr(0, kDeadLetterBytes)});
}

void Report::OnLesson(const LessonEvent& lesson) {
  const LessonReport& report = lesson.done.report;
  const MutexLock lock(mutex_);
  if (lesson.done.error) {
    ++counts_.lessons_failed;
    return;
  }
  if (!report.accepted && report.tokens == 0 && report.nll_before == 0) {
    ++counts_.other_changes;
    return;
  }
  ++(report.accepted ? counts_.lessons_accepted : counts_.lessons_refused);
  const bool trained = report.tokens > 0 && report.nll_before != 0;
  if (trained && std::isfinite(report.loss)) counts_.last_loss = report.loss;
  if (report.nll_before == 0 || !std::isfinite(report.nll_before)) return;
  if (curves_.size() >= kCurves && !curves_.contains(lesson.tenant)) return;
  std::vector<CurvePoint>& curve = curves_[lesson.tenant];
  if (curve.size() == kCurvePoints) return;
  CurvePoint point{lesson.step, report.nll_before, {}, {}};
  if (trained && std::isfinite(report.loss)) point.loss = report.loss;
  if (trained && std::isfinite(report.kl)) point.kl = report.kl;
  curve.push_back(point);
}

RunCounts Report::counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

// ---- The terminal -------------------------------------------------------------------------------

std::string Report::ProgressLine(const OutcomeCounts& progress, size_t lessons_left,
                                 double seconds) const {
  const RunCounts now = counts();
  std::string line;
  if (total_events_ && *total_events_ > 0) {
    constexpr uint64_t kBar = 16;
    const uint64_t filled = std::min(kBar, progress.outcomes * kBar / *total_events_);
    line = "[" + std::string(filled, '#') + std::string(kBar - filled, '.') + "] " +
           std::to_string(progress.outcomes) + "/" + std::to_string(*total_events_);
  } else {
    line = Counted(progress.outcomes, "event");
  }
  if (seconds > 0) {
    line += "  " + Fixed(static_cast<double>(progress.outcomes) / seconds, 1) + "/s";
  }
  line += "  " + Counted(progress.responses, "answer") + "  " +
          Counted(now.lessons_accepted + now.lessons_refused, "lesson");
  if (lessons_left > 0) line += " +" + std::to_string(lessons_left);
  if (now.last_loss) line += "  loss " + Fixed(*now.last_loss, 2);
  return Fit(line, 79);
}

void Report::Tick(const OutcomeCounts& progress, size_t lessons_left) {
  if (!terminal_) return;
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
  std::cerr << "\r\033[2K" << ProgressLine(progress, lessons_left, time.count()) << std::flush;
  drawn_ = true;
}

void Report::ClearProgress() {
  if (drawn_) std::cerr << "\r\033[2K" << std::flush;
  drawn_ = false;
}

void Report::PrintSummary(std::ostream& out, const Summary& summary) {
  ClearProgress();
  const RunCounts all = counts();
  Screen screen(out);
  screen.Overview(all, summary);
  screen.Paths(all);
  screen.Nodes(summary);
  screen.Answers(summary);
  screen.Scores(summary);
  screen.Notes(summary);
  screen.Files(all, summary);
  screen.Chains(summary);
  out.flush();
}

// ---- The files ----------------------------------------------------------------------------------

Result<Nothing> Report::WriteHtml(const std::string& path, const Summary& summary) const {
  const MutexLock lock(mutex_);
  return WriteFile(path, ReportPage(counts_, curves_, dead_letters_, summary));
}

Result<Nothing> Report::WriteJson(const std::string& path, const Summary& summary) const {
  return WriteFile(path, ReportJson(counts(), summary));
}

}  // namespace nudge
