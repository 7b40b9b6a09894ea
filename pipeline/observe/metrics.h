// Counters of one node: calls, how many of them failed, and how long they took. Any thread; relaxed
// atomics, never read into state or outcomes.
#pragma once

#include <algorithm>
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
  class Laps;

  void Add(std::chrono::nanoseconds time) { Add(1, time, time); }
  void Add(uint64_t calls, std::chrono::nanoseconds total, std::chrono::nanoseconds longest) {
    const auto max_ns = static_cast<uint64_t>(longest.count());
    calls_.fetch_add(calls, std::memory_order_relaxed);
    total_ns_.fetch_add(static_cast<uint64_t>(total.count()), std::memory_order_relaxed);
    uint64_t seen = max_ns_.load(std::memory_order_relaxed);
    while (max_ns > seen &&
           !max_ns_.compare_exchange_weak(seen, max_ns, std::memory_order_relaxed)) {
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

// Times calls that follow one another, each from the end of the one before: one look at the clock a
// call. One thread; all are added when it ends.
class NodeMetrics::Laps {
 public:
  explicit Laps(NodeMetrics& metrics)
      : metrics_(metrics), lap_start_(std::chrono::steady_clock::now()) {}
  ~Laps() {
    if (calls_ > 0) metrics_.Add(calls_, total_, longest_);
  }
  Laps(const Laps&) = delete;
  Laps& operator=(const Laps&) = delete;

  void Lap() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::nanoseconds time = now - lap_start_;
    lap_start_ = now;
    ++calls_;
    total_ += time;
    longest_ = std::max(longest_, time);
  }
  void CountError() { metrics_.CountError(); }

 private:
  NodeMetrics& metrics_;
  std::chrono::steady_clock::time_point lap_start_;
  uint64_t calls_ = 0;
  std::chrono::nanoseconds total_{0};
  std::chrono::nanoseconds longest_{0};
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
