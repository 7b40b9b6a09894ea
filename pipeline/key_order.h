// Restores log order behind anything parallel: messages of a partition leave by their ordinal.
//
//   any order -> [KeyedOrder] -> 0, 1, 2, ... of each partition; partitions do not wait for each
//   other
//
// One caller at a time (the body of a serial node). Holds at most as many messages as there are
// credits, since each held message holds one.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "stages/events.h"
#include "stages/result.h"

namespace nudge {

template <class M>
class KeyedOrder {
 public:
  // The partition's next message is the one of this ordinal. Before its first message.
  void Start(int32_t partition, uint64_t next_ordinal) {
    partitions_[partition] = Waiting{next_ordinal, {}};
  }

  // Drops the partition and all that it held.
  void Drop(int32_t partition) { partitions_.erase(partition); }

  // The ordinal of the message that leaves next; nothing of a partition that is not here.
  std::optional<uint64_t> Next(int32_t partition) const {
    const auto found = partitions_.find(partition);
    return found == partitions_.end() ? std::nullopt : std::optional(found->second.next);
  }

  // Takes a message; calls `emit` for it and for those that waited for it, in order.
  template <class Emit>
  void Put(const M& message, Emit&& emit) {
    const Sequence at = message.sequence();
    const auto found = partitions_.find(at.partition());
    ENSURE(found != partitions_.end() && at.ordinal() >= found->second.next);
    auto& [next, held] = found->second;
    const size_t place = static_cast<size_t>(at.ordinal() - next);
    if (place == 0) {
      emit(message);
      ++next;
      if (!held.empty()) held.pop_front();
      while (!held.empty() && held.front()) {
        emit(*held.front());
        held.pop_front();
        ++next;
      }
      return;
    }
    if (held.size() <= place) held.resize(place + 1);
    ENSURE(!held[place]);
    held[place] = message;
  }

 private:
  struct Waiting {
    uint64_t next = 0;
    std::deque<std::optional<M>> held;  // held[i] has ordinal next + i; held[0] is always empty
  };
  std::map<int32_t, Waiting> partitions_;
};

}  // namespace nudge
