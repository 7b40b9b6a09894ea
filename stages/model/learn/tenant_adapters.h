// An adapter as it learns, a tenant's or one of its users': Lesson -> [TenantAdapters] -> the
// version that serves next.
//
// Holds the learner, and of every lesson that its lineage (stages/lineage.h) still knows,
// by its place there, the text and what came of it when it was last learnt. The adapter of a place
// is a function of the lessons on its path alone: a fresh learner that takes them in order. So a
// return to a place (rollback, reset, forget) goes on from the nearest checkpoint on the path and
// learns the rest again, one lesson a call, so that others can have a turn in between.
//
// A lesson, step by step:
//   1. Begin drops what the lineage dropped, keeps the lesson, and finds where to learn from
//   2. LearnNext learns one, as long as Behind
//   3. End publishes the version that the lesson makes
// Lessons are applied one at a time, in log order, by one caller at a time (jobs of the executor).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/model/learn/checkpoints.h"
#include "stages/model/learn/teacher.h"
#include "stages/model/learn/tenant_adapters_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

// A version as it is served: its weights. nullptr: the base.
struct Served {
  std::shared_ptr<const AdapterVersion> adapter;

  const std::string& digest() const;  // "base" without an adapter
};

// A lesson as it is kept, so that it can be learnt again and looked at.
struct KeptLesson {
  TextExample example;
  std::string comment;  // the user's, not learnt
};

// What came of a lesson when it was last learnt: a function of the lessons on its path.
struct LessonResult {
  LessonReport report;
  std::string error;      // why it could not be learnt; empty: see the report's verdict
  bool is_final = false;  // one that was set aside: learnt after all, or refused for good
  bool is_told = false;   // by an outcome

  // Nothing where it was learnt at once, as its receipt says.
  std::optional<LessonEnd> EndOf(LearningPlace place) const;
};

struct LessonDone {
  std::optional<Error> error;           // the lesson changed nothing
  LessonReport report;                  // of examples
  Served serves;                        // what the lesson's version, if it makes one, resolves to
  std::optional<SnapshotRef> snapshot;  // of a step that asks for one
  std::vector<LessonEnd> ends;          // the same: of lessons that no outcome has told of, the
                                        // earliest first, kEndsToldMost at most
};

class TenantAdapters {
 public:
  static constexpr char kJournalKind[] = "journal";
  static constexpr char kResultKind[] = "lesson_result";
  static constexpr char kImportKind[] = "import";
  static constexpr char kLearnerKind[] = "learner";
  static constexpr size_t kEndsToldMost = 64;

  // room: of the tenant; outlives this.
  TenantAdapters(Teacher& teacher, TenantId tenant, TenantAdaptersOptions options,
                 CheckpointRoom& room);

  // `shown` is the text of the answer that an example speaks of; nullptr: it was never given, and
  // the lesson is an error that changes nothing.
  void Begin(LearningPlace at, const Lesson& lesson, const std::string* shown);
  bool Behind() const { return !ahead_.empty(); }
  // Requires Behind. A lesson that cannot be learnt leaves weights and moments as they were.
  void LearnNext(const ParallelFor& parallel_for);
  // Requires that nothing is ahead. `parent` serves where the lesson failed.
  LessonDone End(const Lesson& lesson, const Served& parent, const ParallelFor& parallel_for);

  // Nothing is left of it: the last lesson ended the learner. It may learn anew.
  bool has_ended() const { return has_ended_; }
  // A lesson came since the last Save.
  bool has_changed() const { return has_changed_; }

  // Entries of the four kinds: see stages/state.h. Between lessons.
  void Save(Changes& changes);
  Result<Nothing> Load(const Change& entry);

  // Entries of these kinds for those who only look; nothing where they cannot be read.
  static std::optional<KeptLesson> ReadJournal(const Change& entry);
  static std::optional<LessonResult> ReadResult(const Change& entry);

 private:
  struct Visitor;

  void Return(const nudge::Return& back);
  Result<Nothing> StartFrom(LearningPlace start);
  void Forget(LearningPlace place);
  void NoteResult(LearningPlace place, LessonResult result);
  void NoteTrial(const LessonReport& report);
  std::vector<LessonEnd> TellEnds();
  BackendLearner& learner();

  Teacher& teacher_;
  const TenantId tenant_;
  const TenantAdaptersOptions options_;
  std::unique_ptr<BackendLearner> learner_;  // made at the first lesson; none: at the base model
  // Where what the learner has learnt leads; none: nowhere that counts.
  std::optional<LearningPlace> at_ = 0;
  uint64_t learnt_ = 0;  // lessons since the start of its path
  uint64_t since_checkpoint_ = 0;
  bool has_ended_ = false;
  bool has_changed_ = false;
  Table<LearningPlace, KeptLesson> journal_;
  Table<LearningPlace, LessonResult> results_;
  Table<LearningPlace, std::shared_ptr<const AdapterVersion>> imports_;
  Checkpoints checkpoints_;

  // Of the lesson at hand.
  std::deque<LearningPlace> ahead_;
  std::optional<Error> error_;
  LessonReport report_;
};

}  // namespace nudge
