// Counters of one node: calls, and how long they took. Any thread; relaxed atomics, never read into
// state or outcomes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace nudge {

class NodeMetrics {
 public:
  // Times one call, from construction to destruction.
  class Timer {
   public:
    explicit Timer(NodeMetrics& metrics)
        : metrics_(metrics), start_(std::chrono::steady_clock::now()) {}
    ~Timer() { metrics_.Add(std::chrono::steady_clock::now() - start_); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    NodeMetrics& metrics_;
    std::chrono::steady_clock::time_point start_;
  };

  void Add(std::chrono::nanoseconds time) {
    const auto ns = static_cast<uint64_t>(time.count());
    calls_.fetch_add(1, std::memory_order_relaxed);
    total_ns_.fetch_add(ns, std::memory_order_relaxed);
    uint64_t seen = max_ns_.load(std::memory_order_relaxed);
    while (ns > seen && !max_ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed)) {
    }
  }

  uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
  uint64_t total_ns() const { return total_ns_.load(std::memory_order_relaxed); }
  uint64_t max_ns() const { return max_ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> total_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

}  // namespace nudge
