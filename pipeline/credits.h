// How much of each partition may be in flight: events and bytes, taken at the source, returned when
// the outcome is committed. The bound on the graph's queues, which have none of their own.
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace nudge {

struct CreditLimits {
  uint64_t events = 4096;        // per partition, 1..
  uint64_t bytes = 64ull << 20;  // per partition; one event larger than this still passes alone
};

class Credits {
 public:
  explicit Credits(CreditLimits limits) : limits_(limits) {}

  // Blocks until the event may enter. False: Close was called; nothing was taken.
  bool Take(int32_t partition, uint64_t bytes) {
    std::unique_lock lock(mutex_);
    InFlight& used = partitions_[partition];
    changed_.wait(lock, [&] {
      return closed_ || used.events == 0 ||
             (used.events < limits_.events && used.bytes + bytes <= limits_.bytes);
    });
    if (closed_) return false;
    ++used.events;
    used.bytes += bytes;
    return true;
  }

  void Return(int32_t partition, uint64_t events, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    InFlight& used = partitions_[partition];
    used.events -= events;
    used.bytes -= bytes;
    changed_.notify_all();
  }

  // Blocks until nothing of any partition is in flight. False: the time is over, or Close was
  // called.
  bool WaitUntilIdle(std::optional<std::chrono::milliseconds> timeout = std::nullopt) {
    std::unique_lock lock(mutex_);
    const auto over = [&] { return closed_ || Idle(); };
    if (timeout) {
      changed_.wait_for(lock, *timeout, over);
    } else {
      changed_.wait(lock, over);
    }
    return !closed_ && Idle();
  }

  // Wakes everybody: nothing is admitted any more.
  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  struct InFlight {
    uint64_t events = 0;
    uint64_t bytes = 0;
  };

  bool Idle() const {
    for (const auto& [partition, used] : partitions_) {
      if (used.events != 0) return false;
    }
    return true;
  }

  const CreditLimits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int32_t, InFlight> partitions_;
  bool closed_ = false;
};

}  // namespace nudge
