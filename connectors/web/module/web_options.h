// What a page chooses of a session. Plain values, any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stages/model/learn/learner_options.h"

namespace nudge {

struct WebOptions {
  size_t step_tokens_max = 256;  // of all sequences of a step, 2 or more
  uint32_t rank = 8;             // 1..64
  float alpha = 16;
  uint64_t seed = 1;           // of a new adapter
  size_t window_tokens = 512;  // of a prompt and its answer, 2 or more
  AdamWOptions steps = {};

  friend bool operator==(const WebOptions&, const WebOptions&) = default;
};

// The learning rule of such a session.
inline LearnerOptions RuleOf(const WebOptions& options) {
  LearnerOptions rule;
  rule.rank = options.rank;
  rule.alpha = options.alpha;
  rule.optimizer = options.steps;
  rule.seed = options.seed;
  return rule;
}

}  // namespace nudge
