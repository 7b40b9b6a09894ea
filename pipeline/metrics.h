// Counters of one node: calls, how many of them failed, and how long they took. Any thread; relaxed
// atomics, never read into state or outcomes.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace nudge {

// Times one call of whatever has Add, from construction to destruction.
template <class Metrics>
class CallTimer {
 public:
  explicit CallTimer(Metrics& metrics)
      : metrics_(metrics), start_(std::chrono::steady_clock::now()) {}
  ~CallTimer() { metrics_.Add(std::chrono::steady_clock::now() - start_); }
  CallTimer(const CallTimer&) = delete;
  CallTimer& operator=(const CallTimer&) = delete;

 private:
  Metrics& metrics_;
  std::chrono::steady_clock::time_point start_;
};

class NodeMetrics {
 public:
  using Timer = CallTimer<NodeMetrics>;

  void Add(std::chrono::nanoseconds time) {
    const auto ns = static_cast<uint64_t>(time.count());
    calls_.fetch_add(1, std::memory_order_relaxed);
    total_ns_.fetch_add(ns, std::memory_order_relaxed);
    uint64_t seen = max_ns_.load(std::memory_order_relaxed);
    while (ns > seen && !max_ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed)) {
    }
  }
  void CountError() { errors_.fetch_add(1, std::memory_order_relaxed); }

  uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
  uint64_t errors() const { return errors_.load(std::memory_order_relaxed); }
  uint64_t total_ns() const { return total_ns_.load(std::memory_order_relaxed); }
  uint64_t max_ns() const { return max_ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> errors_{0};
  std::atomic<uint64_t> total_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

// The same of work that takes milliseconds and more: also how many calls took how long.
class DurationMetrics : public NodeMetrics {
 public:
  using Timer = CallTimer<DurationMetrics>;

  // Upper bounds of the buckets; one more is for what takes longer.
  static constexpr std::array<double, 16> kBoundsSeconds = {
      .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300};
  using Counts = std::array<uint64_t, kBoundsSeconds.size() + 1>;

  void Add(std::chrono::nanoseconds time) {
    NodeMetrics::Add(time);
    const double seconds = std::chrono::duration<double>(time).count();
    size_t bucket = 0;
    while (bucket < kBoundsSeconds.size() && seconds > kBoundsSeconds[bucket]) ++bucket;
    counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  }

  // Calls per bucket, not added up.
  Counts counts() const {
    Counts counts{};
    for (size_t i = 0; i < counts.size(); ++i) {
      counts[i] = counts_[i].load(std::memory_order_relaxed);
    }
    return counts;
  }

 private:
  std::array<std::atomic<uint64_t>, kBoundsSeconds.size() + 1> counts_{};
};

}  // namespace nudge
