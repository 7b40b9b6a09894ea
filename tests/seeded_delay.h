// A delay that upsets the timing of a run and nothing else.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "stages/hash.h"

namespace nudge::testing {

// Of up to 200 us for one call in `one_in`, from a counter: different in every run's timing, the
// same in every run's sum. Any thread.
inline std::function<void()> SeededDelay(uint64_t seed, uint64_t one_in = 8) {
  auto counter = std::make_shared<std::atomic<uint64_t>>(0);
  return [=] {
    const uint64_t value = RandomAt(seed, counter->fetch_add(1));
    if (value % one_in == 0) std::this_thread::sleep_for(std::chrono::microseconds(value % 200));
  };
}

}  // namespace nudge::testing
