// What was forgotten leaves the event log and the outcomes:
//   outcomes of nudge.forget, the offset that states go on from -> [LogEraser] -> files without it
//
// A forget is carried out once neither the state nor a backup goes on from before it, so that no
// restart needs what goes. The order makes it the same wherever it was interrupted: first the
// records, the newest file first, so that feedback goes before the question by which it is found;
// then the outcomes of all records that are gone; then `erased_until` in the log's folder says
// which forget was the last one. Whatever is not below it is done again.
//
// Look: the thread that writes outcomes. Stop: any thread. Erase: one thread, beside all others.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "connectors/erased_outcomes.h"
#include "connectors/log/embedded_log.h"
#include "connectors/sink.h"
#include "pipeline/serve/forgotten.h"
#include "pipeline/serve/outcome_index.h"
#include "stages/guarded.h"

namespace nudge {

struct LogEraserOptions {
  std::string log_folder;
  std::string output_folder;
  EventLimits limits;
  std::chrono::milliseconds disk_timeout{30'000};
};

class LogEraser {
 public:
  struct Done {
    uint64_t forgets = 0;
    uint64_t records = 0;
    uint64_t outcomes = 0;
  };

  // All must outlive it.
  LogEraser(LogEraserOptions options, EmbeddedLog& log, OutcomeIndex& outcomes)
      : options_(std::move(options)), log_(log), outcomes_(outcomes) {}

  // A committed outcome: one of a forget is carried out in time.
  void Look(const OutcomeLine& line);

  // Carries out what can be, given that every kept state goes on from `needed_offset` or later.
  // After an error the next call begins again.
  Result<Done> Erase(int64_t needed_offset);

  // An Erase that runs ends soon, with kUnavailable; so does every later one.
  void Stop() { stopping_ = true; }

 private:
  Result<Nothing> FindForgets();
  std::set<int64_t> Ready(int64_t needed_offset) const;
  Result<Nothing> Read(int64_t begin, int64_t end, const LogVisit& visit) const;
  Result<Nothing> EraseRecords(const Forgotten& forgotten, int64_t end, int64_t needed_offset,
                               Done& done);
  Result<Nothing> EraseOutcomes(const Forgotten& forgotten, int64_t end, Done& done);

  const LogEraserOptions options_;
  EmbeddedLog& log_;
  OutcomeIndex& outcomes_;
  std::atomic<bool> stopping_{false};
  bool has_found_ = false;  // those of before this process
  mutable Mutex mutex_;
  std::set<int64_t> forgets_ GUARDED_BY(mutex_);  // offsets of those that are not carried out
};

}  // namespace nudge
