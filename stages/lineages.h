// The lineages of one tenant: the tenant's own, or one of each user who taught (adapt.scope).
//
// Steps and versions have one count in the tenant, so that a version names one adapter in it,
// whosever that is. The lineages are independent otherwise.
//
// respond owns one a tenant; one call at a time, in log order.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "stages/jobs.h"
#include "stages/lineage.h"
#include "stages/state.h"

namespace nudge {

class Lineages {
 public:
  // Of the rows of its own in a saved state; the others are the lineages'.
  static constexpr char kNumbersKind[] = "lineage_numbers";
  static bool IsKind(std::string_view kind);  // whether Load takes it

  const Lineage* Find(const LearnerId& learner) const;  // nullptr: who has taught nothing
  Version Serving(const LearnerId& learner) const;      // 0 of who has taught nothing
  std::vector<LearnerId> Learners() const;              // in their order
  size_t users() const;                                 // who have one of their own

  // To change it; a new one where there is none. The last one that was asked for, until the next
  // call.
  Lineage& Change(const LearnerId& learner);
  // The learner's lineage is no more. Requires one.
  Lineage::Unlearnt Remove(const LearnerId& learner);

  // What left a lineage since the last call.
  std::vector<LearningPlace> TakeDroppedPlaces(const LearnerId& learner);
  std::vector<Version> TakeDroppedVersions();  // what left any by the event at hand

  // The event at hand is done. It counts for whose it is, and for whose lineage it has changed.
  void Advance(const std::optional<LearnerId>& whose);

  void Save(const std::string& tenant, Changes& changes);
  Result<Nothing> Load(const nudge::Change& entry);

 private:
  void CountOn();
  void CountOn(const Lineage::Numbers& numbers);

  std::map<LearnerId, Lineage> lineages_;
  std::set<LearnerId> removed_;  // empty ones, until their rows are gone
  std::set<LearnerId> changed_;  // by the event at hand
  Lineage::Numbers numbers_;     // the highest of all, ever, but of current_
  Lineage::Numbers saved_;
  LearnerId current_;
};

}  // namespace nudge
