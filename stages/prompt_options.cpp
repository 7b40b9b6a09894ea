#include "stages/prompt_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(PromptOptions& options) {
  using enum Effect;
  return {
      {"prompt.system", Text{&options.default_system, 0, 16 << 10}, "bytes", kSemantic,
       "the default prompt, until an event replaces it"},
      {"prompt.default_prompt_id", Text{&options.default_prompt_id, 1, 256}, "bytes", kSemantic,
       "what events call the default prompt"},
      {"prompt.presets", Presets{&options.presets, 1, 16}, "presets", kSemantic,
       "ways to draw an answer, among which feedback chooses"},
      {"prompt.policy_gamma", Number{&options.gamma, 0, 1e6}, "", kSemantic,
       "how much the best prompt and preset is preferred; 0: always taken"},
      {"prompt.reward_decay", Number{&options.reward_decay, .01, 1}, "", kSemantic,
       "of a prompt's past rewards with every new one"},
      {"prompt.prior_mean", Number{&options.prior_mean, 0, 1}, "", kSemantic,
       "reward expected of a prompt without feedback"},
      {"prompt.prior_weight", Number{&options.prior_weight, .001, 1e6}, "rewards", kSemantic,
       "that the expectation counts as"},
      {"prompt.few_shots", Number{&options.few_shots, 0, 16}, "examples", kSemantic,
       "shown with a question, at most; 0: none are kept either"},
      {"prompt.few_shot_min_similarity", Number{&options.few_shot_min_similarity, -1, 1}, "",
       kSemantic,
       "of an example to the question (cosine and helpfulness); every embedder has another "
       "scale"},
      {"prompt.few_shot_weight", Number{&options.few_shot_weight, 0, 10}, "", kSemantic,
       "of proven helpfulness against similarity"},
      {"prompt.corrections_as_examples", Flag{&options.corrections_as_examples}, "", kSemantic,
       "a correction also becomes an example"},
      {"limits.decisions_per_tenant", Number{&options.decisions_per_tenant, 1, 1e7}, "queries",
       kSemantic, "back to which feedback still counts for the prompt that was chosen"},
      {"limits.examples_per_tenant", Number{&options.examples_per_tenant, 1, 1e6}, "", kSemantic,
       "for few-shots; the least helpful goes first"},
  };
}

Fields OptionsOf(DecodingPreset& preset, const std::string& path) {
  using enum Effect;
  Decoding& d = preset.decoding;
  return {
      {path + ".name", Text{&preset.name, 1, 64}, "bytes", kSemantic,
       "what outcomes call it; every preset has another"},
      {path + ".temperature", Number{&d.temperature, 0, 2}, "", kSemantic,
       "0 takes the likeliest token, more varies more"},
      {path + ".top_p", Number{&d.top_p, .01, 1}, "", kSemantic,
       "draws from the likeliest tokens that have this probability together"},
      {path + ".top_k", Number{&d.top_k, 0, 1e6}, "tokens", kSemantic,
       "draws from this many likeliest tokens; 0: from all"},
      {path + ".max_tokens", Number{&d.max_tokens, 1, 4096}, "", kSemantic,
       "of an answer; below model.window_tokens"},
  };
}

}  // namespace nudge
