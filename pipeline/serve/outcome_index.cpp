#include "pipeline/serve/outcome_index.h"

#include <utility>
#include <variant>

#include "stages/receipts.h"

namespace nudge {
namespace {

// What an entry takes beside its line, about: its key twice, and the containers' own.
constexpr uint64_t kEntryBytes = 512;

}  // namespace

std::optional<int64_t> OutcomeIndex::Add(const std::string& line) {
  const Result<RecordedOutcome> recorded = DecodeOutcome(line);
  if (!recorded.ok()) return std::nullopt;
  Add(*recorded, line);
  return recorded->offset;
}

void OutcomeIndex::Add(const RecordedOutcome& recorded, const std::string& line) {
  const Outcome& outcome = recorded.outcome;
  if (outcome.tenant.empty() || outcome.id.empty()) return;
  const Says says = IsDuplicate(outcome)                               ? Says::kDuplicate
                    : std::holds_alternative<DeadLetter>(outcome.what) ? Says::kDeadLetter
                                                                       : Says::kAll;
  Key key(outcome.tenant, outcome.id);
  const MutexLock lock(mutex_);
  const auto [entry, is_new] = kept_.try_emplace(key);
  Kept& kept = entry->second;
  const bool makes_way = kept.says < says || (kept.says == says && says != Says::kAll);
  if (!is_new && !makes_way) return;
  if (!is_new) bytes_ -= kept.line.size() + kEntryBytes;
  kept = {line, recorded.offset, says, ++added_};
  bytes_ += line.size() + kEntryBytes;
  order_.emplace_back(kept.number, std::move(key));
  while ((bytes_ > bytes_max_ || kept_.size() > outcomes_max_) && order_.size() > 1) {
    const auto oldest = kept_.find(order_.front().second);
    if (oldest != kept_.end() && oldest->second.number == order_.front().first) {
      bytes_ -= oldest->second.line.size() + kEntryBytes;
      kept_.erase(oldest);
    }
    order_.pop_front();
  }
}

size_t OutcomeIndex::size() const {
  const MutexLock lock(mutex_);
  return kept_.size();
}

std::optional<std::string> OutcomeIndex::Find(std::string_view tenant,
                                              std::string_view event_id) const {
  const MutexLock lock(mutex_);
  const auto found = kept_.find({std::string(tenant), std::string(event_id)});
  return found == kept_.end() ? std::nullopt : std::optional(found->second.line);
}

void OutcomeIndex::Erase(const RecordedOutcome& outcome, std::string erased) {
  const MutexLock lock(mutex_);
  const auto found = kept_.find({outcome.outcome.tenant, outcome.outcome.id});
  if (found == kept_.end() || found->second.offset != outcome.offset) return;
  bytes_ -= found->second.line.size();
  bytes_ += erased.size();
  found->second.line = std::move(erased);
  found->second.says = Says::kNothing;
}

}  // namespace nudge
