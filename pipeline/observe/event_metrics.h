// What kinds of events came and what they ended in, counted by the nodes that decode events and
// encode outcomes. Any thread; relaxed atomics, never read into state or outcomes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <variant>

#include "stages/events.h"
#include "stages/result.h"

namespace nudge {

class EventMetrics {
 public:
  static constexpr size_t kTypes = std::variant_size_v<decltype(Event::data)>;
  static constexpr size_t kCodes = static_cast<size_t>(kLastCode) + 1;
  // Who can refuse an event; the last stands for anybody else.
  static constexpr std::array<std::string_view, 11> kStages = {
      "source", "decode",  "prepare",  "recall", "index", "adapt",
      "prompt", "respond", "generate", "encode", "other"};

  void CountEvent(const Event& event) { Count(events_[event.data.index()]); }

  // Of events that are answered for the first time, not of those that recovery repeats.
  void CountOutcome(const Outcome& outcome) {
    if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) {
      CountDeadLetter(letter->stage, letter->error.code);
    } else if (const auto* response = std::get_if<Response>(&outcome.what)) {
      Count(response->cache_hit ? cached_answers_ : fresh_answers_);
      if (response->cache_hit) return;
      prompt_tokens_.fetch_add(response->prompt_tokens, std::memory_order_relaxed);
      completion_tokens_.fetch_add(response->completion_tokens, std::memory_order_relaxed);
    }
  }

  void CountDeadLetter(std::string_view of, Code code) {
    size_t stage = 0;
    while (stage + 1 < kStages.size() && kStages[stage] != of) ++stage;
    Count(dead_letters_[stage][static_cast<size_t>(code)]);
  }

  uint64_t events(size_t type) const { return Read(events_[type]); }
  uint64_t dead_letters(size_t stage, size_t code) const {
    return Read(dead_letters_[stage][code]);
  }
  uint64_t cached_answers() const { return Read(cached_answers_); }
  uint64_t fresh_answers() const { return Read(fresh_answers_); }
  uint64_t prompt_tokens() const { return Read(prompt_tokens_); }
  uint64_t completion_tokens() const { return Read(completion_tokens_); }

 private:
  using Counter = std::atomic<uint64_t>;
  static void Count(Counter& counter) { counter.fetch_add(1, std::memory_order_relaxed); }
  static uint64_t Read(const Counter& counter) { return counter.load(std::memory_order_relaxed); }

  std::array<Counter, kTypes> events_{};
  std::array<std::array<Counter, kCodes>, kStages.size()> dead_letters_{};
  Counter cached_answers_{0};
  Counter fresh_answers_{0};
  Counter prompt_tokens_{0};
  Counter completion_tokens_{0};
};

}  // namespace nudge
