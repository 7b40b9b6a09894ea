// Threads that wait for parts: a ParallelFor without the cost of starting any, for the benchmarks.
// Used by one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "stages/model/trainer/parallel.h"

namespace nudge {

class Pool {
 public:
  // With 1 thread the caller's alone; the others spin a while and then sleep.
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Pool() {
    stopping_ = true;
    Announce();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return 1 + static_cast<int>(threads_.size()); }

  void Run(int parts, const std::function<void(int)>& body) {
    if (threads_.empty()) {
      for (int part = 0; part < parts; ++part) body(part);
      return;
    }
    body_ = &body;
    parts_ = parts;
    next_ = 0;
    idle_ = 0;
    Announce();
    Take();
    while (idle_.load() < static_cast<int>(threads_.size())) std::this_thread::yield();
  }

  ParallelFor For() {
    return [this](int parts, const std::function<void(int)>& body) { Run(parts, body); };
  }

 private:
  void Announce() {
    ++round_;
    round_.notify_all();
  }
  void Take() {
    for (int part = next_++; part < parts_; part = next_++) (*body_)(part);
  }
  void Work() {
    for (uint64_t seen = 0;;) {
      for (int spin = 0; spin < 20'000 && round_.load() == seen; ++spin) __builtin_ia32_pause();
      round_.wait(seen);
      seen = round_.load();
      if (stopping_) return;
      Take();
      ++idle_;
    }
  }

  std::atomic<uint64_t> round_{0};
  std::atomic<bool> stopping_{false};
  const std::function<void(int)>* body_ = nullptr;
  int parts_ = 0;
  std::atomic<int> next_{0};
  std::atomic<int> idle_{0};
  std::vector<std::jthread> threads_;
};

}  // namespace nudge
