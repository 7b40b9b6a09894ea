// How a lesson changes an adapter: see learner.h.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/optimizer_options.h"
#include "stages/options.h"

namespace nudge {

struct LearnerOptions {
  uint32_t rank = 8;
  double alpha = 16;
  std::string scale = "alpha";  // the adapter's weight: alpha / rank; "rslora": alpha / sqrt(rank)
  std::array<bool, kLoraModules> modules = {true, true, true, true, true, true, true};
  AdamWOptions optimizer;

  double down_weight = 0.3;
  double down_beta = 1;
  double balance_decay = 0.97;

  uint32_t replay_per_lesson = 1;
  uint32_t replay_examples = 512;  // kept, of each voice alike
  double replay_decay = 0.95;      // how likely a lesson is repeated, against the voice's next one
  double influence_lessons = 8;    // of each voice, within which what it has had fades

  uint32_t anchors_per_step = 2;
  double anchor_lambda = 1;  // without a kl_budget
  double keep_lambda = 0;    // TrainSequence::keep of what is learnt, not of what is pushed away
  double reach_floor = 1;    // TrainSequence::reach_floor of what is learnt
  // Where it is set, lambda starts at .5 and is multiplied each step by
  // exp(clamp(.3 (ema / kl_budget - 1), -.1, .4)), within [.03, 5]; ema is the anchors' KL, faded
  // by .8 a step.
  double kl_budget = 0;  // nats per token, kLeastKlBudget or more; 0: none

  // The gate: a step that leaves its anchors' KL above this, and no lower than it was, is taken
  // back. Looked at once the KL before the step is above half of it.
  double kl_cap = 1;  // nats per token; 0: no gate

  // Evidence that a lesson has to have so as not to count against its voice (credit.h), in nats.
  // 0: nobody is asked for any.
  double evidence_nats = 4;
  // The gate of the canaries (canaries.h): a step that leaves their quotes less likely by this, and
  // no likelier than they were, is taken back.
  double canary_drop_max = 0.5;  // nats per token; 0: no canaries

  // People who have to agree on a lesson, who teaches it among them (quorum.h). 1: nobody is asked.
  uint32_t quorum_people = 1;

  uint64_t seed = 1;
};

inline constexpr double kLeastKlBudget = 1e-4;  // nats per token

keys::Fields OptionsOf(LearnerOptions& options);

}  // namespace nudge
