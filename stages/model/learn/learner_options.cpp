#include "stages/model/learn/learner_options.h"

namespace nudge {

using namespace keys;

namespace {

constexpr double kMaxSeed = 9007199254740991;  // 2^53 - 1: exact in every JSON reader

}  // namespace

Fields OptionsOf(LearnerOptions& options) {
  using enum Effect;
  return {
      {"adapt.rank", Number{&options.rank, 1, 64}, "", kSemantic, "of the adapter's matrices"},
      {"adapt.alpha", Number{&options.alpha, .001, 1024}, "", kSemantic,
       "the adapter acts with the weight alpha / rank"},
      {"adapt.scale", Choice{&options.scale, {"alpha", "rslora"}}, "", kSemantic,
       "rslora: with the weight alpha / sqrt(rank), which stays as strong at high ranks"},
      {"adapt.modules",
       Subset{
           options.modules,
           {"q", "k", "v", "o", "gate", "up", "down"},
           {{"all", {"q", "k", "v", "o", "gate", "up", "down"}}, {"mlp", {"gate", "up", "down"}}}},
       "", kSemantic,
       "that the adapter changes: attention's q, k, v and o, the feed-forward's gate, up and "
       "down. All learn fastest; fewer make a smaller and cheaper adapter"},
      {"adapt.learning_rate", Number{&options.optimizer.learning_rate, 1e-8, 1}, "", kSemantic,
       "of a step (AdamW); 1e-3 and more wreck what a small model knows"},
      {"adapt.warmup_steps", Number{&options.optimizer.warmup_steps, 0, 10'000}, "", kSemantic,
       "until the learning rate is reached: the first steps know little of where to go"},
      {"adapt.gradient_clip", Number{&options.optimizer.clip_norm, 1e-6, 1e6}, "", kSemantic,
       "longest gradient of a step (L2 norm); a longer one is scaled down"},
      {"adapt.down_weight", Number{&options.down_weight, 0, 1}, "", kSemantic,
       "of a thumb down against a thumb up"},
      {"adapt.down_beta", Number{&options.down_beta, 1e-3, 100}, "", kSemantic,
       "how sharply a thumb down stops pushing once the answer has become unlikely"},
      {"adapt.balance_decay", Number{&options.balance_decay, 0, 1}, "", kSemantic,
       "of the counts of ups and downs with each event; where downs prevail they weigh less"},
      {"adapt.replay_per_lesson", Number{&options.replay_per_lesson, 0, 8}, "examples", kSemantic,
       "earlier ones repeated with each new one"},
      {"adapt.replay_examples", Number{&options.replay_examples, 0, 100'000}, "", kSemantic,
       "kept per tenant to be repeated"},
      {"adapt.replay_decay", Number{&options.replay_decay, 0.5, 1}, "", kSemantic,
       "how likely a person's lesson is repeated, against their next one; 1: all alike"},
      {"adapt.influence_lessons", Number{&options.influence_lessons, 1, 1e6}, "", kSemantic,
       "of each person: over as many all people have the same part of what is learnt, however "
       "often one of them teaches"},
      {"adapt.anchors_per_step", Number{&options.anchors_per_step, 0, 8}, "texts", kSemantic,
       "checked with each step"},
      {"adapt.anchor_lambda", Number{&options.anchor_lambda, 0, 100}, "", kSemantic,
       "how strongly the anchor holds"},
      {"adapt.keep_lambda", Number{&options.keep_lambda, 0, 100}, "", kSemantic,
       "how strongly a lesson's text keeps what it does not say in the base model's proportion: "
       "the tokens beside its own; 0: not at all"},
      {"adapt.reach_floor", Number{&options.reach_floor, 0, 1}, "", kSemantic,
       "how much of a lesson's text counts behind a beginning that the model does not make yet; "
       "1: all of it, as much as the beginning"},
      {"adapt.kl_budget", Number{&options.kl_budget, 0, 10}, "nats per token", kSemantic,
       "drift that the anchor's strength is steered to, 1e-4 or more; 0: anchor_lambda stays "
       "as it is"},
      {"adapt.kl_cap", Number{&options.kl_cap, 0, 10}, "nats per token", kSemantic,
       "drift beyond which a step that adds to it is taken back; 0: none is"},
      {"adapt.evidence_nats", Number{&options.evidence_nats, 0, 100}, "nats", kSemantic,
       "by which a lesson's text should be likelier behind its own question than behind others; "
       "who teaches much that is not is not learnt from. 0: this is not looked at"},
      {"adapt.canary_drop_max", Number{&options.canary_drop_max, 0, 10}, "nats per token",
       kSemantic,
       "by which quotes from the tenant's documents may become less likely; a step beyond is "
       "taken back. 0: this is not looked at"},
      {"adapt.quorum_people", Number{&options.quorum_people, 1, 8}, "", kSemantic,
       "of the tenant who have to agree on what is learnt, who teaches it among them; until then "
       "lessons are set aside. 1: who teaches is enough"},
      {"adapt.seed", Number{&options.seed, 0, kMaxSeed}, "", kSemantic,
       "of the adapter's first values and of what is repeated when"},
  };
}

}  // namespace nudge
