// What a run did, for people: a progress line, a summary of one screen, a page of HTML; and the
// summary for programs.
//
//   OutcomeLine, LessonEvent -> [Report] -> terminal, report.html, summary.json
//
// Nothing here is read by the engine: times are of the wall clock and differ from run to run; what
// repeats are the outcomes. OnOutcome and OnLesson: any threads, as the hooks of the Processor.
// Tick: one thread. PrintSummary, WriteHtml, WriteJson: once both hooks are silent.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "connectors/sink.h"
#include "pipeline/executor.h"
#include "pipeline/graph.h"
#include "pipeline/outbox.h"
#include "pipeline/report/held_out.h"
#include "stages/guarded.h"
#include "stages/hash.h"

namespace nudge {

// Counts over the outcomes and lessons of this run.
struct RunCounts {
  uint64_t events = 0;  // outcomes of any kind
  uint64_t answers = 0;
  uint64_t cache_hits = 0;  // of the answers
  uint64_t cited = 0;       // answers with at least one citation
  uint64_t receipts = 0;
  uint64_t duplicates = 0;  // of the receipts
  uint64_t dead_letters = 0;
  uint64_t unreadable = 0;                         // lines that DecodeOutcome refuses
  std::map<std::string, uint64_t> dead_by_code;    // by "stage: code"
  std::map<std::string, uint64_t> answers_by_arm;  // "prompt, version 1, preset"; 64 and "other"

  uint64_t documents = 0;  // upserts that were indexed
  uint64_t chunks_added = 0;
  uint64_t versions = 0;  // of adapters, that an outcome announced
  uint64_t snapshots = 0;
  std::string last_snapshot;  // its uri

  uint64_t lessons_accepted = 0;
  uint64_t lessons_refused = 0;  // by the learner's own check
  uint64_t lessons_failed = 0;
  uint64_t other_changes = 0;  // rollback, reset, import, rebuilding
  std::optional<double> last_loss;
};

// One lesson on a learning curve.
struct CurvePoint {
  uint64_t step = 0;
  double nll_before = 0;       // nats per token
  std::optional<double> loss;  // of a lesson that trained
  std::optional<double> kl;    // of the anchors, nats per token
};

// A dead letter as the page shows it.
struct DeadLetterRow {
  int32_t partition = 0;
  int64_t offset = 0;
  std::string tenant;
  std::string where;  // "stage: code"
  std::string message;
  std::string remedy;
  std::string bytes;  // their beginning
};

// What the caller knows at the end. Pointers may be nullptr and must outlive the call.
struct Summary {
  struct Chain {
    uint64_t events = 0;  // of the whole log
    Sha256Digest hash{};
  };

  double elapsed_seconds = 0;
  const GraphMetrics* graph = nullptr;
  const NodeMetrics* generate = nullptr;
  const NodeMetrics* embed = nullptr;
  const NodeMetrics* lessons = nullptr;
  std::map<int32_t, Chain> chains;  // by partition

  std::string model;               // which model answers and which trains; may be empty
  std::vector<std::string> notes;  // honest lines: "the base model knows English only"
  std::string snapshot_folder;     // empty: none
  std::string html;                // path of the page, named in the summary; empty: none
  std::string json;                // the same of summary.json

  const HeldOut* held_out = nullptr;
  std::optional<HeldOutScore> base;     // without adapters
  std::optional<HeldOutScore> adapter;  // with the adapters of the end
  std::string held_out_note;            // why there are no numbers; else empty
  uint32_t show_answers = 3;            // before and after; the terminal shows at most 3
};

class Report {
 public:
  // `total_events`: of this run, if known. The progress line goes to stderr if that is a terminal.
  explicit Report(std::optional<uint64_t> total_events = {});

  // Decodes the line: about as dear as encoding it was.
  void OnOutcome(const OutcomeLine& line);
  void OnLesson(const LessonEvent& lesson);

  // Draws the progress line anew; nothing if stderr is no terminal.
  void Tick(const OutcomeCounts& progress, size_t lessons_left);
  // Takes the line away, before other text goes to the terminal. PrintSummary does it itself.
  void ClearProgress();

  // One line of at most 79 columns, without its end.
  std::string ProgressLine(const OutcomeCounts& progress, size_t lessons_left,
                           double seconds) const;

  // Some 40 lines, at most 60, of at most 100 columns, but for paths: each is on a line of its own
  // and whole. The last lines are `outcomes sha256 HEX`, one for each partition (of up to 4).
  void PrintSummary(std::ostream& out, const Summary& summary);

  // A page that needs nothing from elsewhere, under a temporary name first. kUnreadableFile if it
  // cannot be written; a page that was there before is then left as it was.
  Result<Nothing> WriteHtml(const std::string& path, const Summary& summary) const;

  // The numbers of PrintSummary as one object of JSON, format 1; written as WriteHtml does.
  Result<Nothing> WriteJson(const std::string& path, const Summary& summary) const;

  RunCounts counts() const;

 private:
  void CountAnswer(const Response& response) REQUIRES(mutex_);
  void CountReceipt(const Outcome& outcome, const Applied& applied) REQUIRES(mutex_);
  void CountDeadLetter(const RecordedOutcome& recorded, const DeadLetter& letter) REQUIRES(mutex_);

  const std::optional<uint64_t> total_events_;
  const std::chrono::steady_clock::time_point start_;
  const bool terminal_;
  bool drawn_ = false;

  mutable Mutex mutex_;
  RunCounts counts_ GUARDED_BY(mutex_);
  // In log order; bounded, counts are not.
  std::map<TenantId, std::vector<CurvePoint>> curves_ GUARDED_BY(mutex_);
  std::vector<DeadLetterRow> dead_letters_ GUARDED_BY(mutex_);  // the first ones
};

}  // namespace nudge
