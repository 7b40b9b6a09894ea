// Prompts, decodings and few-shots, and how one of them is chosen: see prompt.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "stages/events.h"
#include "stages/options.h"

namespace nudge {

struct DecodingPreset {
  std::string name;
  Decoding decoding;
};

struct PromptOptions {
  std::string default_prompt_id = "default";  // always there; an upsert replaces its text
  std::string default_system =
      "You are a helpful assistant. Answer briefly, from the numbered passages if there are any.";
  std::vector<DecodingPreset> presets = {{"greedy", {}}};  // one or more, names differ
  double gamma = 20;           // of the policy, 0 or more; 0: always the best arm
  double reward_decay = 0.99;  // (0, 1], of an arm's past with every reward
  double prior_mean = 0.5;     // 0..1, of an arm without rewards
  double prior_weight = 2;     // in rewards, above 0
  uint32_t few_shots = 2;      // at most, a query; 0: examples are not kept either
  // On cosine plus weighted helpfulness. Between -1 and 1, and the embedder's business: for
  // multilingual-e5-small, texts that have nothing in common are at 0.80.
  double few_shot_min_similarity = 0.85;
  double few_shot_weight = 0.05;
  size_t examples_per_tenant = 1'000;
  size_t decisions_per_tenant = 10'000;  // queries whose feedback still finds its arm
  // A correction also becomes an example. Off, since corrections are the adapter's to learn and
  // what each path is worth should be told apart. On, queries' texts and vectors are remembered.
  bool corrections_as_examples = false;
};

keys::Fields OptionsOf(PromptOptions& options);
// Of an element of prompt.presets: each key behind `path` and a dot.
keys::Fields OptionsOf(DecodingPreset& preset, const std::string& path);

}  // namespace nudge
