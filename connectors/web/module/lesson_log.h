// What a session has learnt, so that somebody else can learn it again: each event that decides the
// adapter -> [LessonLog] -> lines of JSON, which lesson_replay.h reads.
//
// Token ids and numbers alone, so that what a server verifies does not rest on a page's texts.
// docs/BROWSER.md has the lines. There is room for kLinesMost of them, and kBytesMost bytes: then
// the log is cut, stays as it is, and says so. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "connectors/web/module/web_options.h"
#include "stages/model/learn/learner.h"
#include "stages/model/trainer/trainer.h"
#include "stages/result.h"
#include "stages/state.h"

namespace nudge {

// Hex SHA-256 of all that a rule's options are: two programs whose rules have the same one learn
// alike.
std::string RuleDigest(const LearnerOptions& rule);

// "learnt", "drifts" and so on, in a log.
std::string_view NameOf(LessonVerdict verdict);

class LessonLog {
 public:
  static constexpr uint64_t kFormat = 1;
  static constexpr size_t kLinesMost = 4096;
  static constexpr size_t kBytesMost = size_t{8} << 20;

  // Of a session with a new adapter.
  LessonLog(const std::string& base_sha256, const WebOptions& options);

  // What throws, for want of memory, has changed nothing. `digest`: of the adapter behind the
  // event.

  // Another adapter was taken over; empty: a new one was begun. Of several, one after the other
  // and with nothing learnt in between, the last one stays.
  void AddAdapter(const std::string& digest);
  // What was taught by the whole rule, beside these anchors.
  void AddLesson(const TokenExample& example, std::span<const TrainSequence> anchors,
                 LessonVerdict verdict, const std::string& digest);
  // One step of AdamW and nothing else; ReserveStep makes room for it before it is taken.
  void ReserveStep(std::span<const TrainSequence> sequences);
  void AddStep(std::span<const TrainSequence> sequences, const std::string& digest);
  // The session goes on from what was saved, with these options.
  void AddRestore(const WebOptions& options);
  // Nothing is added any more, since `why`: words without quotation marks.
  void Cut(std::string_view why);

  // All lines, and one that ends them.
  std::string Export(const std::string& digest) const;

  void Save(ByteWriter& out) const;
  // kUnreadableFile: it was not saved so; nothing has changed.
  Result<Nothing> Load(ByteReader& in);

 private:
  void Add(std::string_view line);

  std::string text_;     // whole lines
  size_t lines_ = 0;     // in it
  size_t last_ = 0;      // where the last one begins
  std::string anchors_;  // the last line of such; empty: none
  std::string cut_;      // why; empty: it is not
};

}  // namespace nudge
