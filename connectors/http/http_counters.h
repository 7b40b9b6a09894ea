// Counts answers as they begin: sessions -> [HttpCounters] -> HttpCounts.
//
// Any thread; relaxed atomics.
#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "connectors/http/http_service.h"
#include "connectors/http_counts.h"

namespace nudge {

class HttpCounters {
 public:
  // `route`: by index into Routes(), or their number for what is no path.
  void Count(size_t route, unsigned status) {
    const size_t digit = status / 100;
    if (digit >= 2 && digit < 2 + HttpCounts::kClasses.size()) Add(answers_[route][digit - 2]);
    for (size_t i = 0; i < refusals_.size(); ++i) {
      if (HttpCounts::kRefusals[i] == status) Add(refusals_[i]);
    }
  }

  void Read(HttpCounts& counts) const {
    const std::span<const Route> routes = Routes();
    counts.routes.resize(answers_.size());
    for (size_t i = 0; i < answers_.size(); ++i) {
      HttpCounts::Route& route = counts.routes[i];
      route.name = i == routes.size()
                       ? "other"
                       : std::string(routes[i].method) + " " + std::string(routes[i].path);
      for (size_t j = 0; j < route.answers.size(); ++j) route.answers[j] = answers_[i][j];
    }
    for (size_t i = 0; i < refusals_.size(); ++i) counts.refusals[i] = refusals_[i];
  }

 private:
  using Counter = std::atomic<uint64_t>;
  static void Add(Counter& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

  using Answers = std::array<Counter, HttpCounts::kClasses.size()>;
  std::vector<Answers> answers_ = std::vector<Answers>(Routes().size() + 1);
  std::array<Counter, HttpCounts::kRefusals.size()> refusals_{};
};

}  // namespace nudge
