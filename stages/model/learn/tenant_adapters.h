// One tenant's adapter as it learns: Lesson -> [TenantAdapters] -> the version that serves next.
//
// Holds the learner and the journal: every example behind the weights as they are now, so that
// nudge.forget can rebuild them without some. Lessons are applied one at a time in log order by one
// caller at a time (a job of the executor).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "stages/jobs.h"
#include "stages/model/learn/teacher.h"
#include "stages/model/learn/tenant_adapters_options.h"
#include "stages/state.h"

namespace nudge {

// A version as it is served: its weights (nullptr: the base) and how much of the journal is in
// them.
struct Served {
  std::shared_ptr<const AdapterVersion> adapter;
  uint64_t journal_end = 0;  // entries counted from the tenant's beginning, dropped ones too

  const std::string& digest() const;  // "base" without an adapter
};

struct LessonDone {
  std::optional<Error> error;           // the lesson changed nothing
  LessonReport report;                  // of examples
  Served serves;                        // what the lesson's version, if it makes one, resolves to
  std::optional<SnapshotRef> snapshot;  // of a step that asks for one
};

class TenantAdapters {
 public:
  TenantAdapters(Teacher& teacher, TenantId tenant, TenantAdaptersOptions options);

  // `shown` is the text of the answer that an example speaks of (nullptr: it was never given, the
  // example is refused). `target` is the version that a rollback goes to, `parent` the one that
  // serves if the lesson fails. A failed lesson leaves weights, moments and journal as they were.
  LessonDone Apply(const Lesson& lesson, const std::string* shown, const Served& target,
                   const Served& parent, const ParallelFor& parallel_for);

  // Entries of kinds "learner" and "journal": see stages/state.h.
  void Save(Changes& changes);
  Result<Nothing> Load(const Change& entry);

 private:
  struct Entry {
    TextExample example;
    std::string user;
    std::set<std::string> documents;
  };

  Result<LessonReport> Learn(const LoggedExample& logged, const std::string* shown,
                             const ParallelFor& parallel_for);
  Result<Nothing> Rebuild(const Unlearn& unlearn, const ParallelFor& parallel_for);
  Result<Nothing> RollBack(const Served& target);
  Result<Nothing> BringIn(const Import& import);
  BackendLearner& learner();
  uint64_t journal_end() const { return journal_begin_ + journal_.size(); }
  void DropJournal();

  Teacher& teacher_;
  const TenantId tenant_;
  const TenantAdaptersOptions options_;
  std::unique_ptr<BackendLearner> learner_;  // made at the first lesson
  std::shared_ptr<const AdapterVersion>
      start_;  // the journal's starting point: an import, else base
  std::deque<Entry> journal_;
  uint64_t journal_begin_ = 0;  // number of journal_.front()
  uint64_t saved_begin_ = 0;    // entries that a Save has written: [saved_begin_, saved_end_)
  uint64_t saved_end_ = 0;
  uint64_t dirty_from_ = 0;  // entries from here on differ from what was written
};

}  // namespace nudge
