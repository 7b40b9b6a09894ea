// The newest outcomes by tenant and id of their events: line -> [OutcomeIndex] -> line.
//
// Bounded in bytes; the oldest go first. Where an id comes again the first outcome stays, since a
// duplicate's receipt says less, but a dead letter makes way: the event may have been sent again.
// So does a line that was erased, which stands here until the process ends. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "connectors/codec.h"
#include "stages/guarded.h"

namespace nudge {

class OutcomeIndex {
 public:
  explicit OutcomeIndex(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // A line as the outcome log has it; its offset, or nothing if it is no outcome. One whose event
  // could not be read has no id, and is left out.
  std::optional<int64_t> Add(const std::string& line);
  std::optional<std::string> Find(std::string_view tenant, std::string_view event_id) const;

  // The outcome goes, where it is kept; `erased` stands in its place.
  void Erase(const RecordedOutcome& outcome, std::string erased);

 private:
  struct Kept {
    std::string line;
    int64_t offset = 0;
    bool makes_way = false;
    uint64_t number = 0;  // of its place in order_
  };
  using Key = std::pair<std::string, std::string>;

  const uint64_t bytes_max_;
  mutable Mutex mutex_;
  std::map<Key, Kept> kept_ GUARDED_BY(mutex_);
  std::deque<std::pair<uint64_t, Key>> order_ GUARDED_BY(mutex_);  // the oldest first
  uint64_t added_ GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace nudge
