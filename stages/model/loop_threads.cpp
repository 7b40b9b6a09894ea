#include "stages/model/loop_threads.h"

#include "stages/result.h"

namespace nudge {
namespace {

constexpr int kSpins = 4000;  // ~50 us: the gap between two loops of a pass
constexpr uint64_t kPartBits = 32;

uint32_t NextOf(uint64_t parts) {
  return static_cast<uint32_t>(parts);
}
uint32_t CountOf(uint64_t parts) {
  return static_cast<uint32_t>(parts >> kPartBits);
}

}  // namespace

LoopThreads::LoopThreads(size_t threads) {
  for (size_t i = 1; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

LoopThreads::~LoopThreads() {
  stopping_ = true;
  ++loops_;
  loops_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

ParallelFor LoopThreads::For() {
  return [this](int parts, const std::function<void(int)>& body) { Run(parts, body); };
}

void LoopThreads::Run(int parts, const std::function<void(int)>& body) {
  ENSURE(parts >= 0);
  if (threads_.empty() || parts == 1) {
    for (int part = 0; part < parts; ++part) body(part);
    return;
  }
  body_ = &body;
  done_ = 0;
  parts_ = uint64_t{static_cast<uint32_t>(parts)} << kPartBits;
  ++loops_;
  loops_.notify_all();
  Take();
  for (int spin = 0; done_.load() < static_cast<uint32_t>(parts); ++spin) {
    if (spin < kSpins) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }
}

// A part that is taken keeps its loop from ending, and with it the body.
void LoopThreads::Take() {
  for (;;) {
    uint64_t at = parts_.load();
    if (NextOf(at) >= CountOf(at)) return;
    at = parts_.fetch_add(1);
    if (NextOf(at) >= CountOf(at)) return;
    (*body_.load())(static_cast<int>(NextOf(at)));
    ++done_;
  }
}

void LoopThreads::Work() {
  for (;;) {
    const uint32_t seen = loops_.load();
    if (stopping_) return;
    Take();
    for (int spin = 0; spin < kSpins && loops_.load() == seen; ++spin) __builtin_ia32_pause();
    loops_.wait(seen);
  }
}

}  // namespace nudge
