// The numbers of an AdamW step: see optimizer.h.
#pragma once

namespace nudge {

struct AdamWOptions {
  double learning_rate = 5e-4;  // > 0, <= 1
  double beta1 = 0.9;           // 0 <= beta < 1
  double beta2 = 0.999;
  double epsilon = 1e-8;    // > 0
  double weight_decay = 0;  // >= 0
  double clip_norm = 1.0;   // > 0: a longer gradient is scaled to this length
  double warmup_steps = 8;  // until the rate is reached, from 1 / warmup_steps of it on; 0: at once

  friend bool operator==(const AdamWOptions&, const AdamWOptions&) = default;
};

}  // namespace nudge
