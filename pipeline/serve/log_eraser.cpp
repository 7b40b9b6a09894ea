#include "pipeline/serve/log_eraser.h"

#include <charconv>
#include <fstream>
#include <limits>
#include <map>
#include <utility>

#include "connectors/bounded_call.h"
#include "stages/fault_point.h"

namespace nudge {
namespace {

constexpr char kMark[] = "/erased_until";
constexpr size_t kMarkBytes = 32;

// Whether the line is of a forget that was carried out in the state: not refused, not sent twice.
bool IsOfForget(const std::string& line) {
  if (line.find(R"("type":"nudge.forget"})") == line.npos) return false;
  const Result<RecordedOutcome> outcome = DecodeOutcome(line);
  if (!outcome.ok() || outcome->outcome.type != "nudge.forget") return false;
  const auto* applied = std::get_if<Applied>(&outcome->outcome.what);
  return applied != nullptr && !applied->summary.starts_with("duplicate of event ");
}

Error Stopping() {
  return {Code::kUnavailable, "nudge is stopping", "it goes on after the next start"};
}

}  // namespace

void LogEraser::Look(const OutcomeLine& line) {
  if (!IsOfForget(line.bytes)) return;
  const MutexLock lock(mutex_);
  forgets_.insert(line.offset);
}

Result<LogEraser::Done> LogEraser::Erase(int64_t needed_offset) {
  if (!has_found_) {
    if (const Result<Nothing> found = FindForgets(); !found.ok()) return found.error();
    has_found_ = true;
  }
  Done done;
  const std::set<int64_t> ready = Ready(needed_offset);
  if (ready.empty()) return done;
  FaultPoint("erase-begun");
  const int64_t end = *ready.rbegin();
  Forgotten forgotten(options_.limits);
  Result<Nothing> erased =
      Read(*ready.begin(), end + 1, [&](const Frame& frame) -> Result<Nothing> {
        const bool is_one =
            ready.contains(frame.offset) && forgotten.Add(frame.offset, frame.bytes);
        done.forgets += is_one ? 1 : 0;
        return Nothing{};
      });
  const auto see = [&](const Frame& frame) -> Result<Nothing> {
    if (frame.kind == FrameKind::kRecord) forgotten.See(frame.offset, frame.bytes);
    return Nothing{};
  };
  if (erased.ok()) erased = Read(0, end, see);
  if (erased.ok()) erased = EraseRecords(forgotten, end, needed_offset, done);
  if (erased.ok()) erased = EraseOutcomes(forgotten, end, done);
  if (!erased.ok()) return erased.error();
  FaultPoint("erase-done");
  {
    const BoundedCall call("fsync", options_.disk_timeout, "see whether the log's disk is well");
    const std::string path = options_.log_folder + kMark;
    if (const auto marked = ReplaceFile(path, std::to_string(end) + "\n"); !marked.ok()) {
      return Error{marked.error().code, path + ": cannot be written: " + marked.error().message,
                   marked.error().remedy};
    }
  }
  const MutexLock lock(mutex_);
  for (const int64_t offset : ready) forgets_.erase(offset);
  return done;
}

// Those of earlier processes, from their outcomes.
Result<Nothing> LogEraser::FindForgets() {
  int64_t erased_until = -1;
  // One that cannot be read counts as none: what was done is done again, and changes nothing.
  if (const auto mark = ReadFile(options_.log_folder + kMark, kMarkBytes); mark.ok()) {
    std::from_chars(mark->data(), mark->data() + mark->size(), erased_until);
  }
  const std::string path = options_.output_folder + "/outcomes.jsonl";
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{Code::kUnreadableFile, path + ": cannot be read", ""};
  for (std::string line; std::getline(file, line) && !file.eof();) {
    if (stopping_) return Stopping();
    if (!IsOfForget(line)) continue;
    const int64_t offset = DecodeOutcome(line)->offset;
    if (offset <= erased_until) continue;
    const MutexLock lock(mutex_);
    forgets_.insert(offset);
  }
  return Nothing{};
}

std::set<int64_t> LogEraser::Ready(int64_t needed_offset) const {
  const MutexLock lock(mutex_);
  return {forgets_.begin(), forgets_.lower_bound(needed_offset)};
}

// The records of [begin, end), also those that are erased already.
Result<Nothing> LogEraser::Read(int64_t begin, int64_t end, const LogVisit& visit) const {
  bool is_done = false;
  Result<Nothing> read =
      ReadEventLog(options_.log_folder, begin, [&](const Frame& frame) -> Result<Nothing> {
        if (stopping_) return Stopping();
        is_done = frame.offset >= end;
        if (is_done) return Error{Code::kInternal, "enough", ""};
        return visit(frame);
      });
  return is_done ? Nothing{} : read;
}

// One file of the log at a time, the newest first.
Result<Nothing> LogEraser::EraseRecords(const Forgotten& forgotten, int64_t end,
                                        int64_t needed_offset, Done& done) {
  const std::map<int64_t, std::string> segments = SegmentsIn(options_.log_folder);
  int64_t segment_end = end;
  for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
    const int64_t base = segment->first;
    if (base >= end) continue;
    std::set<int64_t> offsets;
    Result<Nothing> erased = Read(base, segment_end, [&](const Frame& frame) -> Result<Nothing> {
      const bool goes =
          frame.kind == FrameKind::kRecord && forgotten.Concerns(frame.offset, frame.bytes);
      if (goes) offsets.insert(frame.offset);
      return Nothing{};
    });
    if (erased.ok()) erased = log_.Erase(offsets, needed_offset);
    if (!erased.ok()) return erased;
    if (!offsets.empty()) FaultPoint("erase-log");
    done.records += offsets.size();
    segment_end = base;
  }
  return Nothing{};
}

// Those whose records are erased, one file of the log after the other.
Result<Nothing> LogEraser::EraseOutcomes(const Forgotten& forgotten, int64_t end, Done& done) {
  constexpr size_t kAnyBytes = 256;
  OutcomeEraser eraser(options_.output_folder, options_.disk_timeout);
  std::set<int64_t> erased;
  const OutcomeEraser::Wanted wanted = [&](const RecordedOutcome& outcome) -> Result<bool> {
    if (stopping_) return Stopping();
    if (!erased.contains(outcome.offset) && !forgotten.Concerns(outcome)) return false;
    const ErasedOutcome kept{outcome.partition, outcome.offset, outcome.chain};
    outcomes_.Erase(outcome, EncodeErased(kept, kAnyBytes));
    return true;
  };
  const std::map<int64_t, std::string> segments = SegmentsIn(options_.log_folder);
  for (auto segment = segments.begin(); segment != segments.end(); ++segment) {
    const auto after = std::next(segment);
    const int64_t segment_end = after == segments.end() ? end : std::min(after->first, end);
    if (segment->first >= end) break;
    erased.clear();
    const Result<Nothing> read = Read(segment->first, segment_end, [&](const Frame& frame) {
      if (frame.kind == FrameKind::kErased) erased.insert(frame.offset);
      return Result<Nothing>(Nothing{});
    });
    if (!read.ok()) return read;
    const Result<uint64_t> outcomes = eraser.EraseUntil(segment_end, wanted);
    if (!outcomes.ok()) return outcomes.error();
    done.outcomes += *outcomes;
  }
  erased.clear();
  const Result<uint64_t> outcomes = eraser.EraseUntil(end, wanted);  // where no record is left
  if (!outcomes.ok()) return outcomes.error();
  done.outcomes += *outcomes;
  return Nothing{};
}

}  // namespace nudge
