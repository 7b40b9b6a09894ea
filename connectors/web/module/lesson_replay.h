// A page's lessons, learnt again on this machine: its log, the model, the adapters that it took
// over -> [ReplayLessons] -> the same adapter, or the first event behind which it is another.
//
// By the session that the page has (session.h), compiled for this machine. For servers and people
// at a terminal: scripts/web leaves it out of the module. A log may come from anybody: what it asks
// for is bounded. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "connectors/web/module/session.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

struct ReplayInput {
  std::string_view log;               // as WebSession::ExportLessons, or a part of it
  std::shared_ptr<const void> model;  // as WebSession::Load
  size_t model_bytes = 0;
  std::vector<std::string> adapters;  // GGUF files that the page took over, in any order
};

struct LessonDifference {
  size_t line = 0;      // from 1
  uint64_t lesson = 0;  // or step, from 1; 0: before the first
  std::string what;     // "the adapter is DIGEST in the log, and DIGEST here"
};

struct ReplayedLessons {
  std::unique_ptr<WebSession> session;         // behind the last event that was replayed
  uint64_t lessons = 0;                        // by the whole rule
  uint64_t taken = 0;                          // of these; the others were set aside
  uint64_t steps = 0;                          // of AdamW alone
  std::optional<LessonDifference> difference;  // none: the same behind every event, and at the end
  std::string cut;  // why the log has not all that was learnt; empty: it has
};

// As many tokens as a step of a log may have, and the longest log.
inline constexpr size_t kReplayStepTokensMost = 8192;
inline constexpr size_t kReplayLogBytesMost = LessonLog::kBytesMost + 4096;

// Errors: kUnreadableFile (a line that is none of a log, by its number; a log without its last
// line, or with more or fewer lines than that says), kWrongAdapter (made with another base model,
// other products or another rule; an adapter that is not among those given), as WebSession::Load
// and Import; kModelFailed (a lesson that cannot be learnt).
Result<ReplayedLessons> ReplayLessons(const ReplayInput& input, ParallelFor parallel);

}  // namespace nudge
