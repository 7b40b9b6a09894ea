// What the thread that owns the source shows to those who watch a run.
//
//   Processor::Pump -> [PumpBoard] -> Processor::View, Watchdog
//
// An event costs that thread two relaxed stores and no lock. Which event is the oldest is looked up
// by that thread, between two records, and only when somebody asks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "stages/events.h"
#include "stages/guarded.h"

namespace nudge {

// The last events of a partition that were pushed. One thread.
class RecentEvents {
 public:
  struct Pushed {
    std::weak_ptr<const Origin> origin;  // gone, with its bytes, once the event has left the graph
    int64_t offset = 0;
    uint64_t ordinal = 0;
    uint32_t at_ms = 0;
  };

  // Remembers `capacity` events, 1 or more: as many as may be in flight.
  explicit RecentEvents(size_t capacity = 1) : capacity_(capacity) {}

  void Add(const std::shared_ptr<const Origin>& origin, uint32_t at_ms) {
    Pushed pushed{origin, origin->offset, origin->sequence.ordinal(), at_ms};
    if (events_.size() < capacity_) {
      events_.push_back(std::move(pushed));
    } else {
      events_[oldest_] = std::move(pushed);
      oldest_ = oldest_ + 1 == capacity_ ? 0 : oldest_ + 1;
    }
  }

  // The first of them at or after the offset; nullptr if there is none.
  const Pushed* From(int64_t offset) const {
    for (size_t i = 0; i < events_.size(); ++i) {
      const Pushed& pushed = events_[(oldest_ + i) % events_.size()];
      if (pushed.offset >= offset) return &pushed;
    }
    return nullptr;
  }

 private:
  size_t capacity_;
  size_t oldest_ = 0;
  std::vector<Pushed> events_;
};

class PumpBoard {
 public:
  // Of one partition.
  struct Facts {
    std::atomic<int64_t> next_offset{0};
    std::atomic<uint64_t> replaying_events{0};
    int64_t committed_offset = 0;  // when it was assigned
  };

  // ---- By the thread that owns the source

  std::shared_ptr<Facts> Add(int32_t partition, int64_t committed_offset) {
    auto facts = std::make_shared<Facts>();
    facts->committed_offset = committed_offset;
    const MutexLock lock(mutex_);
    partitions_[partition] = facts;
    return facts;
  }
  void Remove(int32_t partition) {
    const MutexLock lock(mutex_);
    partitions_.erase(partition);
  }
  void CountPoll() {
    polls_.store(polls_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  // What it is at, where that is something else than asking the source: "restoring partition 3".
  class Doing {
   public:
    Doing(PumpBoard& board, std::string what) : board_(board) { board_.Say(std::move(what)); }
    ~Doing() { board_.Say(""); }
    Doing(const Doing&) = delete;
    Doing& operator=(const Doing&) = delete;

   private:
    PumpBoard& board_;
  };

  struct Oldest {
    int64_t offset = 0;
    uint64_t ordinal = 0;
    std::shared_ptr<const Origin> origin;  // null: it has left the graph
    uint32_t at_ms = 0;
  };
  // Answers Ask, if somebody asks: `find` gives the oldest event of a partition, if there is one.
  template <class Find>
  void Answer(const Find& find) {
    if (!asked_.load(std::memory_order_relaxed)) return;
    {
      const MutexLock lock(mutex_);
      asked_.store(false, std::memory_order_relaxed);
      answer_ = find(question_);
      answered_ = true;
    }
    changed_.NotifyAll();
  }

  // ---- By anybody else

  std::map<int32_t, std::shared_ptr<const Facts>> partitions() const {
    const MutexLock lock(mutex_);
    return {partitions_.begin(), partitions_.end()};
  }
  uint64_t polls() const { return polls_.load(std::memory_order_relaxed); }
  std::string doing() const {
    const MutexLock lock(mutex_);
    return doing_;
  }

  // One thread. Nothing: the time is over. An empty answer: nothing is in flight.
  std::optional<std::optional<Oldest>> Ask(int32_t partition, std::chrono::milliseconds timeout) {
    const MutexLock lock(mutex_);
    question_ = partition;
    answered_ = false;
    asked_.store(true, std::memory_order_relaxed);
    if (!changed_.WaitFor(mutex_, timeout, [&]() REQUIRES(mutex_) { return answered_; })) {
      return std::nullopt;
    }
    return std::exchange(answer_, std::nullopt);
  }

 private:
  void Say(std::string what) {
    const MutexLock lock(mutex_);
    doing_ = std::move(what);
  }

  std::atomic<uint64_t> polls_{0};
  std::atomic<bool> asked_{false};
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<int32_t, std::shared_ptr<Facts>> partitions_ GUARDED_BY(mutex_);
  std::string doing_ GUARDED_BY(mutex_);
  int32_t question_ GUARDED_BY(mutex_) = 0;
  bool answered_ GUARDED_BY(mutex_) = false;
  std::optional<Oldest> answer_ GUARDED_BY(mutex_);
};

}  // namespace nudge
