// Where a gradient step's time goes, for `nudge bench train`.
//
// Off, a timer is one relaxed load. On, the time between its begin and end goes to its part; a
// timer inside of another one adds nothing, so that no time counts twice. Sums are over all
// threads. Never read into state or outcomes.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nudge {

enum class StepPart : uint8_t { kFrozen, kLora, kAttention, kRows, kHead, kOptimizer };
inline constexpr std::array<std::string_view, 6> kStepParts = {"frozen products", "LoRA products",
                                                               "attention, rope", "norms, SwiGLU",
                                                               "logits and loss", "optimiser"};

class PartTimes {
 public:
  using Seconds = std::array<double, kStepParts.size()>;

  // Starts all sums at 0 if `on`. Any thread, while no step runs.
  static void Switch(bool on) {
    for (auto& sum : sums_) sum = 0;
    on_ = on;
  }
  static Seconds Sums() {
    Seconds seconds{};
    for (size_t i = 0; i < seconds.size(); ++i) seconds[i] = 1e-9 * static_cast<double>(sums_[i]);
    return seconds;
  }

 private:
  friend class PartTimer;
  static inline std::atomic<bool> on_{false};
  static inline std::array<std::atomic<int64_t>, kStepParts.size()> sums_{};
  static inline thread_local bool inside_ = false;
};

class PartTimer {
 public:
  explicit PartTimer(StepPart part) : part_(part) {
    if (!PartTimes::on_.load(std::memory_order_relaxed) || PartTimes::inside_) return;
    counts_ = PartTimes::inside_ = true;
    begin_ = std::chrono::steady_clock::now();
  }
  ~PartTimer() {
    if (!counts_) return;
    PartTimes::inside_ = false;
    PartTimes::sums_[static_cast<size_t>(part_)].fetch_add(
        std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin_).count(),
        std::memory_order_relaxed);
  }
  PartTimer(const PartTimer&) = delete;
  PartTimer& operator=(const PartTimer&) = delete;

 private:
  const StepPart part_;
  bool counts_ = false;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace nudge
