// The newest outcomes by tenant and id of their events: line -> [OutcomeIndex] -> line.
//
// Bounded in number and bytes; the oldest go first. Where an id comes again the first outcome
// stays, but a dead letter makes way, since the event may have been sent again. A duplicate's
// receipt says less: it takes the place of a dead letter alone, and makes way for all else, since a
// reader of several topics may see it before the first outcome. A line that was erased makes way,
// too; it stands here until the process ends. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "connectors/codec.h"
#include "stages/guarded.h"

namespace nudge {

class OutcomeIndex {
 public:
  explicit OutcomeIndex(uint64_t bytes_max,
                        size_t outcomes_max = std::numeric_limits<size_t>::max())
      : bytes_max_(bytes_max), outcomes_max_(outcomes_max) {}

  // A line as the outcome log has it; its offset, or nothing if it is no outcome. One whose event
  // could not be read has no id, and is left out.
  std::optional<int64_t> Add(const std::string& line);
  void Add(const RecordedOutcome& outcome, const std::string& line);
  std::optional<std::string> Find(std::string_view tenant, std::string_view event_id) const;

  size_t size() const;

  // The outcome goes, where it is kept; `erased` stands in its place.
  void Erase(const RecordedOutcome& outcome, std::string erased);

 private:
  enum class Says : uint8_t { kNothing, kDeadLetter, kDuplicate, kAll };
  struct Kept {
    std::string line;
    int64_t offset = 0;
    Says says = Says::kNothing;
    uint64_t number = 0;  // of its place in order_
  };
  using Key = std::pair<std::string, std::string>;

  const uint64_t bytes_max_;
  const size_t outcomes_max_;
  mutable Mutex mutex_;
  std::map<Key, Kept> kept_ GUARDED_BY(mutex_);
  std::deque<std::pair<uint64_t, Key>> order_ GUARDED_BY(mutex_);  // the oldest first
  uint64_t added_ GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace nudge
