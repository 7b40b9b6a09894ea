// Which versions an adapter has, a tenant's or a user's, and which lessons count for each:
// what an event does to the adapter -> [Lineage] -> Step, Return.
//
// Learning is a tree. Its places are lessons and imports, each behind what the adapter had learnt
// before it; the head is where learning goes on; a version is a place with a number. For a place
// count the lessons from its start (the base model, or the import on its path) to itself. So
//   a lesson                    goes behind the head; every publish_every_steps-th makes a version
//   an import                   is a new start, and makes a version
//   a rollback                  leads the head to the place of a kept version, whatever the branch;
//                               lessons that had made no version yet are dropped
//   a reset                     leads the head to the base model
//   forgetting a person, a      removes the places that hold their words, everywhere; what stood
//   document or an event        behind a removed place stands behind the one before it
//   a later word of a user      removes the place of their earlier word on the same answer, where
//   it on the same answer          is among the head's newest replace_lessons_max lessons;
//   elsewhere it
//                               marks the place, which counts until a rebuild passes it: a removal
//                               before it, or a rollback that leads to it from another branch
// and the adapter of a place equals, digest by digest, that of a fresh learner that is given just
// the lessons that count there. Offers that were not admitted have their place too, and do not
// count until they are admitted after all.
//
// Kept are version 0 and the last versions_kept made, but for those whose lessons a forget changed.
// Places that lead to no kept version and not to the head are dropped. Of the last lessons that
// left it is known when and why, without a name. Only numbers and names: no text and no weights
// pass through here.
//
// After a removal that changes what the head has learnt, the tenant is served at once by
// - version 0, where nothing is left to count;
// - the kept version at the place that the head falls back to, where there is one;
// - else a new version. It takes over after L / relearn_lessons_per_event further events of whose
//   adapter it is, L being the lessons to learn again, so that no answer waits for a long rebuild;
//   until then the nearest kept version before the first change serves. Versions that are made in
//   between serve from there on, too.
//
// Steps and versions are numbered in log order, before anything is computed, never twice, and never
// change. One call at a time, in log order, by respond; lineages.h has those of a tenant.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stages/adapt_options.h"
#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Lineage {
 public:
  // Of its entries in a saved state.
  static constexpr char kHeadKind[] = "lineage";
  static constexpr char kPlaceKind[] = "lesson";
  static constexpr char kVersionKind[] = "version";
  static constexpr char kFormerKind[] = "former_lesson";

  // Whose words a lesson holds: who asked, who taught, whose few-shots and documents were shown,
  // and in which events.
  struct Holds {
    std::set<std::string> people;
    std::set<std::string> documents;
    std::set<EventName> events;
    RestsOn rests_on = {};  // the lists of what was shown, and the documents behind few-shots
  };
  // Where a lesson comes from, for people.
  struct Taught {
    std::string source, id;  // of the event
    std::string user;
    std::string query_source, query_id;  // of the question that it is about; may be empty
  };

  // What became of a lesson.
  enum class Standing : uint8_t {
    kServes,       // counts for the version that serves
    kComes,        // counts, but only for a version that does not serve yet
    kSetAside,     // by a rollback, a reset or an import; a kept version still leads to it
    kNotAdmitted,  // its user had had its share
    // The others have left the tree, and nothing else is known of them.
    kForgotten,  // itself, or with what it could not be told apart from
    kDropped,    // set aside, and no kept version leads to it any more
    kTooOld,     // beyond lessons_per_tenant: whether it counts is not known
    kReplaced,   // by a later word of its user on the same answer
    kTakenBack,  // by its user
  };

  // The version that answers the event at hand.
  Version serving() const;
  // The event at hand is done: the next one may be served by a version that takes over.
  void Advance();

  // What an event removes, and what that changes.
  struct Unlearnt {
    size_t lessons = 0;                  // removed for what the event says, anywhere
    size_t passed = 0;                   // marked ones that the rebuild leaves out, too
    bool head_changes = false;           // other lessons count at the head than before
    bool makes_version = false;          // of the head, since none that is kept is what it is now
    std::optional<Step> step;            // where the event's step is this change
    size_t lessons_again = 0;            // to learn
    std::vector<LearningPlace> changed;  // see Return
    std::vector<Version> versions;       // dropped
    std::vector<Version> snapshots;      // of a forget: that may still hold what is forgotten
    uint64_t events_until_takeover = 0;
  };
  // What became of the lessons of a user's earlier words on an answer, by the events' ids.
  struct Withdrawn {
    std::vector<std::string> at_once, with_next_rebuild, never_learnt;
    size_t too_old = 0;  // to be unlearnt
    Unlearnt unlearnt;   // without a step: Learn or Rebuild takes it
  };

  // A lesson at `at`. A step only where it is admitted, or where `behind`, what the same event has
  // withdrawn before, changes the head.
  std::optional<Step> Learn(Sequence at, Holds holds, bool admitted, const AdaptOptions& options,
                            Taught taught = {}, const Unlearnt* behind = nullptr);
  Step Import(Sequence at, const AdaptOptions& options);
  // To this version, or to what the serving one grew from; nothing where that is not kept.
  std::optional<Unlearnt> RollBack(std::optional<Version> to, const AdaptOptions& options);
  Step Reset();
  Unlearnt Forget(const nudge::Forget& forget, const std::vector<Sequence>& admitted_after_all,
                  const AdaptOptions& options);

  // The lessons of these events are replaced or taken back. What they changed is the step of the
  // lesson that follows in the same event, or of Rebuild.
  Withdrawn Withdraw(const std::vector<Sequence>& earlier, Standing why,
                     const AdaptOptions& options);
  std::optional<Step> Rebuild(const Unlearnt& unlearnt, const AdaptOptions& options);

  // Nothing is left: it is as a new one, and the next Save takes what was saved away. Of Unlearnt
  // the lessons, versions and snapshots.
  Unlearnt Clear();

  // The highest that it has given out. Behind others, the next ones are higher than theirs.
  struct Numbers {
    Version version = 0;
    uint64_t step = 0;
    friend bool operator==(const Numbers&, const Numbers&) = default;
  };
  Numbers numbers() const { return {made_, steps_}; }
  void NumberBehind(const Numbers& others) { others_ = others; }

  // What counts at the head, as Return::path.
  std::vector<LearningPlace> PathOfHead() const;
  // The version that the next one grows from.
  Version parent() const { return held_ ? held_->version : serve_; }

  struct LessonView {
    LearningPlace place = 0;
    uint64_t step = 0;  // 0: none of its own
    std::optional<Version> makes;
    Standing standing = Standing::kServes;
    Taught taught;
    std::set<std::string> people;
    RestsOn rests_on;                // with the documents that were shown
    std::optional<Standing> leaves;  // why, with the next rebuild that passes it
  };
  // In log order; of those that have left, the last kFormerKnown.
  std::vector<LessonView> Lessons() const;

  // What left since the last call, in the order in which it did.
  std::vector<LearningPlace> TakeDroppedPlaces() { return std::exchange(dropped_places_, {}); }
  std::vector<Version> TakeDroppedVersions() { return std::exchange(dropped_versions_, {}); }

  void Save(const std::string& tenant, Changes& changes);
  Result<Nothing> Load(const Change& entry);

 private:
  struct Node {
    LearningPlace parent = 0;
    bool is_import = false;  // then there is no parent
    bool admitted = true;
    Holds holds;
    Taught taught;
    uint64_t step = 0;
    Version makes = 0;               // 0: none
    std::optional<Standing> leaves;  // why, with the next rebuild that passes it
  };
  static constexpr size_t kFormerKnown = 10'000;
  struct Former {  // a lesson that has left
    uint64_t step = 0;
    Version makes = 0;
    Standing why = Standing::kForgotten;
    std::set<EventName> events;  // of one that is too old: may still be in the weights
  };
  struct Made {
    LearningPlace place = 0;
    Version parent = 0;
  };
  struct Held {  // a version that has not taken over yet
    Version version = 0;
    uint64_t events_left = 0;
  };

  Step NextStep();
  void MakeVersion(Step& step, const AdaptOptions& options);
  void TrimVersions(const AdaptOptions& options);
  void MoveHead(LearningPlace place);
  void Hold(LearningPlace place);
  void Release(LearningPlace place);
  void EraseVersion(Version version);
  void TrimLessons(const AdaptOptions& options);
  void CountReferences() const;
  using Leaving = std::map<LearningPlace, Standing>;  // and why
  std::set<LearningPlace> ChangedBy(const Leaving& leaving, const std::set<LearningPlace>& admitted,
                                    bool all) const;
  void Skip(LearningPlace place, Standing why);
  void Leave(LearningPlace place, Standing why);
  bool IsInOlder(const nudge::Forget& forget) const;
  void ForgetOlder(Standing why);
  std::set<LearningPlace> PathTo(LearningPlace place) const;
  LearningPlace LastThatCounts(LearningPlace place) const;
  Unlearnt Remove(Leaving leaving, const std::set<LearningPlace>& admitted, bool all,
                  const AdaptOptions& options);
  void FallBack(const std::set<LearningPlace>& changed, const AdaptOptions& options,
                Unlearnt& unlearnt);
  void MakeRebuilt(Step& step, const Unlearnt& unlearnt, const AdaptOptions& options);
  std::set<LearningPlace> NewestOfHead(size_t lessons) const;
  std::vector<Version> SnapshotsSince(LearningPlace first) const;

  Version serve_ = 0;
  std::optional<Held> held_;
  Version made_ = 0;  // the highest so far
  uint64_t steps_ = 0;
  uint64_t steps_unpublished_ = 0;
  LearningPlace head_ = 0;
  std::deque<std::pair<Version, LearningPlace>> snapshots_;  // the last kSnapshotsKnown written
  // Whose words are in lessons that are not kept any more, but may still be in the weights.
  Holds older_;
  bool changed_ = false;  // any of the above, since the last Save

  Table<LearningPlace, Node> places_;
  Table<uint64_t, Made> versions_;  // by version
  Table<LearningPlace, Former> formers_;
  // Of each place: those behind it, versions at it, the head. Derived; counted when first needed.
  mutable std::map<LearningPlace, uint64_t> references_;
  mutable bool counted_ = false;
  Numbers others_;  // not saved: whoever has several lineages says it before each change
  std::vector<LearningPlace> dropped_places_;
  std::vector<Version> dropped_versions_;
};

}  // namespace nudge
