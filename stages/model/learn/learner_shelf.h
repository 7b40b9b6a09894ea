// The learners of many tenants: those used last in memory, the others asleep on disk.
//
//   ShelvedLearner, one a tenant  ->  [LearnerShelf, one a model]  <->  SpillFile
//
// Where a learner is decides memory and time, never a byte of what it learns: it sleeps as what
// Learner::Save gives, from which it goes on as if nothing had happened.
//
// Two locks. The outer one is the caller's: lessons of all tenants take turns under it, Wake is
// called under it, and what Wake gave is used under it. So nothing is put away that a lesson uses.
// The inner one is the shelf's and says where each learner is. Save and the destructor take only
// this one, from any thread: they wait for a learner that is put away or woken, not for a lesson.
// No code under it calls a ParallelFor: between two parts a lesson gives way to other jobs, and the
// end of such a job may destroy the learner of a tenant that has gone, which takes the inner lock
// on this very thread.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <string_view>

#include "stages/guarded.h"
#include "stages/model/learn/learner.h"
#include "stages/model/learn/spill_file.h"

namespace nudge {

class ShelvedLearner;

// Outlives its learners.
class LearnerShelf {
 public:
  // At most `in_memory` (1 or more) learners are awake. The others are in a file in `folder`
  // (empty: the system's temporary folder), made once it is needed. Where that cannot be written
  // they stay in memory, and standard error says so once.
  LearnerShelf(size_t in_memory, std::string folder);
  LearnerShelf(const LearnerShelf&) = delete;
  LearnerShelf& operator=(const LearnerShelf&) = delete;

  size_t awake() const;
  uint64_t asleep_bytes() const;  // the length of the file

 private:
  friend class ShelvedLearner;

  void MakeRoom() REQUIRES(mutex_);
  std::optional<SpillFile::Ticket> PutAway(std::string_view saved) REQUIRES(mutex_);
  std::string Read(const SpillFile::Ticket& asleep) const REQUIRES(mutex_);
  void Free(std::optional<SpillFile::Ticket>& asleep) REQUIRES(mutex_);

  const size_t in_memory_;
  const std::string folder_;
  mutable Mutex mutex_;                                   // the inner one
  std::list<ShelvedLearner*> by_use_ GUARDED_BY(mutex_);  // those awake; the last used is in front
  std::optional<SpillFile> file_ GUARDED_BY(mutex_);
  bool said_ GUARDED_BY(mutex_) = false;  // that the file cannot be written
};

// The learner of one tenant. One caller at a time.
class ShelvedLearner {
 public:
  explicit ShelvedLearner(LearnerShelf& shelf) : shelf_(shelf) {}
  ~ShelvedLearner();  // frees its place on disk
  ShelvedLearner(const ShelvedLearner&) = delete;
  ShelvedLearner& operator=(const ShelvedLearner&) = delete;

  // Goes on from what Save gave, which is put on disk at once. Before the first Wake.
  void Restore(std::string_view saved);

  // The learner, in memory until somebody else's Wake needs its room; a new one where nothing was
  // restored. Errors as Learner::Load: it sleeps on. Ends the process where the disk does not give
  // back what was put there.
  Result<Learner*> Wake(const FrozenWeights& weights, const LearnerOptions& options);

  // Makes it one that has never learnt. For a saved learner that the options do not fit any more.
  void Forget();

  // What Learner::Save gives, without waking it; empty if it never learnt. Ends the process as
  // Wake.
  std::string Save() const;

 private:
  friend class LearnerShelf;

  LearnerShelf& shelf_;
  // One of these, or none.
  std::optional<Learner> learner_ GUARDED_BY(shelf_.mutex_);
  std::optional<SpillFile::Ticket> asleep_ GUARDED_BY(shelf_.mutex_);
  std::optional<std::string> restored_ GUARDED_BY(shelf_.mutex_);  // that the disk did not take
};

}  // namespace nudge
