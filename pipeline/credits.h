// How much of each partition may be in flight: events and bytes, taken at the source, returned when
// the outcome is committed. The bound on the graph's queues, which have none of their own.
// Any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "pipeline/credit_limits.h"
#include "stages/guarded.h"

namespace nudge {

class Credits {
 public:
  explicit Credits(CreditLimits limits) : limits_(limits) {}

  // True: the event may enter, and its credit is taken. False: not now, or Close was called.
  bool Take(int32_t partition, uint64_t bytes) {
    const MutexLock lock(mutex_);
    InFlight& used = partitions_[partition];
    if (closed_ || !used.Fits(bytes, limits_)) return false;
    ++used.events;
    used.bytes += bytes;
    return true;
  }

  // Blocks until at least half of some blocked partition's events are back, the time is over, or
  // Close was called. Half: so that a full partition is not woken for every single event.
  void WaitForRoom(const std::set<int32_t>& blocked, std::chrono::milliseconds timeout) {
    const MutexLock lock(mutex_);
    changed_.WaitFor(mutex_, timeout, [&]() REQUIRES(mutex_) {
      return closed_ ||
             std::any_of(blocked.begin(), blocked.end(),
                         [&](int32_t partition) REQUIRES(mutex_) { return Roomy(partition); });
    });
  }
  // The number of returns so far. No partition has got room while it stays the same, and it costs
  // one load.
  uint64_t returns() const { return returns_.load(std::memory_order_relaxed); }

  bool HasRoom(int32_t partition) {
    const MutexLock lock(mutex_);
    return Roomy(partition);
  }

  void Return(int32_t partition, uint64_t events, uint64_t bytes) {
    const MutexLock lock(mutex_);
    InFlight& used = partitions_[partition];
    used.events -= events;
    used.bytes -= bytes;
    returns_.fetch_add(1, std::memory_order_relaxed);
    changed_.NotifyAll();
  }

  // The partition belongs to somebody else; its credits come back with it.
  void Drop(int32_t partition) {
    const MutexLock lock(mutex_);
    partitions_.erase(partition);
    returns_.fetch_add(1, std::memory_order_relaxed);
    changed_.NotifyAll();
  }

  // Blocks until nothing of any partition, or of one, is in flight. False: the time is over, or
  // Close was called.
  bool WaitUntilIdle(std::chrono::milliseconds timeout,
                     std::optional<int32_t> partition = std::nullopt) {
    const MutexLock lock(mutex_);
    changed_.WaitFor(mutex_, timeout,
                     [&]() REQUIRES(mutex_) { return closed_ || Idle(partition); });
    return !closed_ && Idle(partition);
  }

  // What is in flight, for people.
  struct InFlight {
    uint64_t events = 0;
    uint64_t bytes = 0;

    bool Fits(uint64_t more_bytes, const CreditLimits& limits) const {
      return events == 0 || (events < limits.events && bytes + more_bytes <= limits.bytes);
    }
  };
  std::map<int32_t, InFlight> in_flight() const {
    const MutexLock lock(mutex_);
    return partitions_;
  }

  // Wakes everybody: nothing is admitted any more.
  void Close() {
    const MutexLock lock(mutex_);
    closed_ = true;
    changed_.NotifyAll();
  }

 private:
  bool Roomy(int32_t partition) const REQUIRES(mutex_) {
    const auto found = partitions_.find(partition);
    return found == partitions_.end() ||
           (found->second.events <= limits_.events / 2 && found->second.bytes <= limits_.bytes / 2);
  }

  bool Idle(std::optional<int32_t> one) const REQUIRES(mutex_) {
    return std::all_of(partitions_.begin(), partitions_.end(), [&](const auto& partition) {
      return partition.second.events == 0 || (one && partition.first != *one);
    });
  }

  const CreditLimits limits_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<int32_t, InFlight> partitions_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> returns_{0};
};

}  // namespace nudge
