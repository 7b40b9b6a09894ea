// What the executor keeps of one tenant: which versions its adapters have, which answers were
// given, and the learners: the tenant's own, or those of its users (adapt.scope). Values that jobs
// still compute are there as Later, under the names that the log gave them, so that a job can wait
// for what lies before it.
//
// The executor owns it. All calls under its lock, but for those that say otherwise, and `abandoned`
// and `forgets`, which jobs read, and the learners, which jobs use: the lessons of a tenant, one
// after the other, whosever adapter they change. That costs no time: lessons take turns in any
// case.
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/later.h"
#include "pipeline/observe/jobs_view.h"
#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/model/backend.h"
#include "stages/model/learn/tenant_adapters.h"
#include "stages/state.h"

namespace nudge {

struct GivenAnswer {
  std::optional<Error> error;
  Completed completed;
  std::string digest;  // of the adapter that gave it
};

class TenantModels {
 public:
  TenantModels(Teacher& teacher, const TenantId& tenant, TenantAdaptersOptions options,
               CheckpointFile& checkpoints);

  // Version 0, and one that left the kept ones, is the base.
  LaterPtr<Served> VersionOf(Version version) const;
  LaterPtr<GivenAnswer> AnswerOf(Sequence at) const;  // one that is not kept any more is an error
  const std::map<Version, LaterPtr<Served>>& versions() const { return versions_; }

  // An answer that is about to be given.
  LaterPtr<GivenAnswer> AddAnswer(Sequence at);
  // Nothing refers to the answer any more.
  void DropAnswer(Sequence at);

  void AddVersion(Version version, const LaterPtr<Served>& made);
  // No later event asks for it.
  void DropVersion(Version version);

  // `done` becomes the tenant's last lesson. The one before it, which it must wait for.
  LaterPtr<LessonDone> Follow(const LaterPtr<LessonDone>& done);
  void LearnerChanges() { learner_changed_ = true; }

  // A new one where there is none. Of jobs and of Load, as the next.
  TenantAdapters& AdaptersOf(const LearnerId& learner);
  void SaveLearners(Changes& changes);

  // What changed since the last call, by name; null: gone.
  struct Unsaved {
    std::map<Version, LaterPtr<Served>> versions;
    std::map<Sequence, LaterPtr<GivenAnswer>> answers;
    bool learner = false;
  };
  Unsaved TakeUnsaved();

  // A lesson of its own came to its end; whether the one before ended in another way. Any thread,
  // as the next.
  bool NoteEnd(const LessonDone& done);
  LessonsView lessons() const;

  // Of a saved state.
  void Restore(Version version, Served served);
  void Restore(Sequence at, GivenAnswer answer);

  const TenantId id;
  std::atomic<bool> abandoned{false};  // its partition was taken away: jobs compute for nobody
  std::atomic<uint64_t> forgets{0};    // so far, in log order: see Executor::ForgetTexts

 private:
  Teacher& teacher_;
  const TenantAdaptersOptions options_;
  CheckpointRoom checkpoint_room_;
  std::map<LearnerId, TenantAdapters> learners_;
  std::map<Version, LaterPtr<Served>> versions_;       // the kept ones, in log order
  std::map<Sequence, LaterPtr<GivenAnswer>> answers_;  // those that something can still refer to
  LaterPtr<LessonDone> last_lesson_;                   // also: the last cut's save
  std::map<Version, bool> unsaved_versions_;           // true: changed, false: gone
  std::map<Sequence, bool> unsaved_answers_;
  bool learner_changed_ = false;

  mutable Mutex view_mutex_;
  LessonsView view_ GUARDED_BY(view_mutex_);
  size_t last_end_ GUARDED_BY(view_mutex_) = 0;  // of kLessonEnds
};

// ---- The saved form (tenant_models_state.cpp): kinds "adapter_version" and "answer" -------------

std::string Encode(const Served& served);
std::string Encode(const GivenAnswer& answer);
// kUnreadableFile for bytes that Encode did not write; kWrongAdapter for weights of another model.
Result<Served> DecodeServed(const Change& entry, Teacher& teacher);
Result<GivenAnswer> DecodeAnswer(const Change& entry);

}  // namespace nudge
