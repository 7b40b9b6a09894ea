#include "stages/lineages.h"

#include <algorithm>
#include <utility>

#include "stages/learner_rows.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

}  // namespace

const Lineage* Lineages::Find(const LearnerId& learner) const {
  const auto found = lineages_.find(learner);
  return found == lineages_.end() || removed_.contains(learner) ? nullptr : &found->second;
}

Version Lineages::Serving(const LearnerId& learner) const {
  const Lineage* lineage = Find(learner);
  return lineage != nullptr ? lineage->serving() : 0;
}

std::vector<LearnerId> Lineages::Learners() const {
  std::vector<LearnerId> learners;
  for (const auto& [learner, lineage] : lineages_) {
    if (!removed_.contains(learner)) learners.push_back(learner);
  }
  return learners;
}

size_t Lineages::users() const {
  return lineages_.size() - removed_.size() - (lineages_.contains(LearnerId()) ? 1 : 0);
}

// What the lineage that was changed last has given out is given out.
void Lineages::CountOn() {
  const auto current = lineages_.find(current_);
  if (current == lineages_.end()) return;
  CountOn(current->second.numbers());
}

void Lineages::CountOn(const Lineage::Numbers& numbers) {
  numbers_.version = std::max(numbers_.version, numbers.version);
  numbers_.step = std::max(numbers_.step, numbers.step);
}

Lineage& Lineages::Change(const LearnerId& learner) {
  CountOn();
  current_ = learner;
  changed_.insert(learner);
  removed_.erase(learner);
  Lineage& lineage = lineages_[learner];
  lineage.NumberBehind(numbers_);
  return lineage;
}

Lineage::Unlearnt Lineages::Remove(const LearnerId& learner) {
  CountOn();
  changed_.insert(learner);
  removed_.insert(learner);
  return lineages_.at(learner).Clear();
}

std::vector<LearningPlace> Lineages::TakeDroppedPlaces(const LearnerId& learner) {
  const auto found = lineages_.find(learner);
  return found == lineages_.end() ? std::vector<LearningPlace>()
                                  : found->second.TakeDroppedPlaces();
}

std::vector<Version> Lineages::TakeDroppedVersions() {
  std::vector<Version> dropped;
  for (const LearnerId& learner : changed_) {
    const std::vector<Version> theirs = lineages_.at(learner).TakeDroppedVersions();
    dropped.insert(dropped.end(), theirs.begin(), theirs.end());
  }
  return dropped;
}

void Lineages::Advance(const std::optional<LearnerId>& whose) {
  if (whose && lineages_.contains(*whose)) changed_.insert(*whose);
  for (const LearnerId& learner : changed_) lineages_.at(learner).Advance();
  changed_.clear();
}

// ---- State --------------------------------------------------------------------------------------

bool Lineages::IsKind(std::string_view kind) {
  return kind == Lineage::kHeadKind || kind == Lineage::kPlaceKind ||
         kind == Lineage::kVersionKind || kind == Lineage::kFormerKind || kind == kNumbersKind;
}

void Lineages::Save(const std::string& tenant, Changes& changes) {
  CountOn();
  bool by_user = false;
  for (auto& [learner, lineage] : lineages_) {
    const size_t first = changes.size();
    lineage.Save(tenant, changes);
    NameLearner(learner, std::span(changes).subspan(first));
    by_user |= !learner.empty();
    // Of one that was removed the head comes last, as the only row that is left.
    if (removed_.contains(learner)) changes.back().value.reset();
  }
  for (const LearnerId& learner : std::exchange(removed_, {})) lineages_.erase(learner);
  if (!by_user || numbers_ == saved_) return;
  saved_ = numbers_;
  ByteWriter writer;
  writer.U8(kFormat);
  writer.U32(numbers_.version);
  writer.U64(numbers_.step);
  changes.push_back({tenant, kNumbersKind, "", writer.Take()});
}

Result<Nothing> Lineages::Load(const nudge::Change& entry) {
  if (entry.kind != kNumbersKind) {
    Lineage& lineage = lineages_[LearnerOfRow(entry.id)];
    if (Result<Nothing> loaded = lineage.Load(entry); !loaded.ok()) return loaded;
    CountOn(lineage.numbers());
    return Nothing{};
  }
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const bool known = reader.U8() == kFormat;
  const Version version = reader.U32();
  const uint64_t step = reader.U64();
  if (!known || !reader.complete()) return UnreadableEntry(entry);
  saved_ = {version, step};
  CountOn(saved_);
  return Nothing{};
}

}  // namespace nudge
