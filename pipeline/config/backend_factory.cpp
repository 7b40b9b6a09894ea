#include "pipeline/config/backend_factory.h"

#include <algorithm>
#include <array>

#include "stages/model/adapters/peft_file.h"
#include "stages/model/local_backend.h"
#include "stages/model/template_backend.h"

namespace nudge {

LearnerOptions LearnerOptionsOf(const LearnSettings& settings) {
  LearnerOptions options;
  options.rank = settings.rank;
  options.alpha = PlainAlpha(settings.alpha, settings.rank, settings.scale == "rslora");
  constexpr std::array<const char*, kLoraModules> kNames{"q", "k", "v", "o", "gate", "up", "down"};
  for (size_t m = 0; m < kLoraModules; ++m) {
    options.modules[m] = std::find(settings.modules.begin(), settings.modules.end(), kNames[m]) !=
                         settings.modules.end();
  }
  options.optimizer.learning_rate = settings.learning_rate;
  options.optimizer.clip_norm = settings.gradient_clip;
  options.beta = settings.down_beta;
  options.down_weight = settings.down_weight;
  options.count_decay = settings.balance_decay;
  options.replay_capacity = settings.replay_examples;
  options.replay_per_step = settings.replay_per_lesson;
  options.anchors_per_step = settings.anchors_per_step;
  options.anchor_lambda = settings.anchor_lambda;
  if (settings.kl_budget > 0) {
    options.anchor_rule = AnchorRule::kBudget;
    options.kl_budget = settings.kl_budget;
  }
  options.kl_cap = settings.kl_cap;
  options.seed = settings.seed;
  return options;
}

BaseForm BaseFormOf(const LearnSettings& settings) {
  if (settings.products == "bf16" && !HasBf16Products()) {
    throw StartError("adapt.products: this processor has no bf16 products: set auto or f32");
  }
  return {.bf16 = settings.products == "bf16" || (settings.products == "auto" && Bf16IsFaster()),
          .in_file = settings.base_memory == "file"};
}

std::unique_ptr<Backend> MakeBackend(const Config& config) {
  if (config.model.backend == "template") {
    TemplateBackendOptions options;
    options.dimension = config.model.template_dimension;
    options.window_tokens = config.model.window_tokens;
    return MakeTemplateBackend(std::move(options));
  }
  LocalBackendOptions options;
  options.language_model = config.model.language_model;
  options.embedder = config.model.embedder;
  options.query_prefix = config.model.query_prefix;
  options.passage_prefix = config.model.passage_prefix;
  options.slots = config.processor.executor.threads;
  options.threads_per_answer = config.model.threads_per_answer;
  options.window_tokens = config.model.window_tokens;
  options.learn = config.processor.adapt.enabled;
  options.learner = LearnerOptionsOf(config.learn);
  options.learners_in_memory = config.learn.learners_in_memory;
  options.spill_folder = StateFolder(config);
  if (options.learn) options.base_form = BaseFormOf(config.learn);
  options.anchors_path = config.learn.anchors_path;
  options.import_folder = config.import_folder;
  return MakeLocalBackend(options);
}

}  // namespace nudge
