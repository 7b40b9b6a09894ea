// Threads that share the parts of one loop after another: a ParallelFor that costs microseconds.
//
// Made for loops that follow each other: a thread without a part spins for a moment before it
// sleeps. A loop waits for the parts that were begun, never for a thread that has not come.
//
// Run is called by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "stages/model/trainer/parallel.h"

namespace nudge {

class LoopThreads {
 public:
  // 1: the caller's alone.
  explicit LoopThreads(size_t threads);
  ~LoopThreads();
  LoopThreads(const LoopThreads&) = delete;
  LoopThreads& operator=(const LoopThreads&) = delete;

  size_t threads() const { return 1 + threads_.size(); }

  void Run(int parts, const std::function<void(int)>& body);
  // Outlived by this.
  ParallelFor For();

 private:
  void Work();
  void Take();

  // How many parts the loop has, and below them which is next: one word, so that whoever takes a
  // part knows whether there is one.
  std::atomic<uint64_t> parts_{0};
  std::atomic<const std::function<void(int)>*> body_{nullptr};  // of the parts
  std::atomic<uint32_t> done_{0};                               // of the parts
  std::atomic<uint32_t> loops_{0};                              // what sleeping threads wait for
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace nudge
