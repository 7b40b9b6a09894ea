// How a lesson changes an adapter: see learner.h.
#pragma once

#include <array>
#include <cstdint>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/optimizer_options.h"

namespace nudge {

enum class AnchorRule : uint8_t {
  kFixed,   // lambda = anchor_lambda
  kBudget,  // lambda follows the KL: see kl_budget
};

struct LearnerOptions {
  uint32_t rank = 8;  // 1..64
  float alpha = 16;   // > 0; the adapter's scale is alpha / rank
  std::array<bool, kLoraModules> modules = {true, true, true, true, true, true, true};
  AdamWOptions optimizer;

  double beta = 1;            // of thumbs down, > 0
  double down_weight = 0.3;   // 0..1
  double count_decay = 0.97;  // 0..1

  uint32_t replay_capacity = 256;  // examples kept, the latest; 0..100000
  uint32_t replay_per_step = 1;    // 0..8, drawn uniformly from those kept

  uint32_t anchors_per_step = 2;  // 0..8
  AnchorRule anchor_rule = AnchorRule::kFixed;
  double anchor_lambda = 1;  // 0..100; kFixed
  // kBudget: lambda starts at .5 and is multiplied each step by exp(clamp(.3 (ema / kl_budget - 1),
  // -.1, .4)), within [.03, 5]; ema is the anchors' KL, faded by .8 a step.
  double kl_budget = 0.1;  // nats per token, > 0

  // The gate: a step that leaves its anchors' KL above this, and no lower than it was, is taken
  // back. Looked at once the KL before the step is above half of it. 0: no gate.
  double kl_cap = 1.0;  // nats per token, >= 0

  uint64_t seed = 1;

  friend bool operator==(const LearnerOptions&, const LearnerOptions&) = default;
};

}  // namespace nudge
