// A short training run whose weights have the same bits wherever it runs: a small random model, a
// lesson of every objective, AdamW.
#pragma once

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

#include "stages/model/trainer/optimizer.h"
#include "stages/model/trainer/trainer.h"
#include "tests/trainer_helpers.h"

namespace nudge::testing {

inline constexpr int kPortableSteps = 30;
inline constexpr TrainerLimits kPortableLimits = {300, 8};

inline TinyLlama PortableModel(const std::string& architecture) {
  TinyLlama model;
  model.architecture = architecture;
  model.hidden = model.feed_forward = 64;  // whole blocks of every stored type
  model.Fill(7);
  return model;
}

inline TrainSequence PortableSequence(Objective objective, size_t tokens, size_t completion_begin,
                                      uint64_t seed, float weight) {
  TrainSequence sequence;
  sequence.tokens = RandomTokens(tokens, TinyLlama().vocabulary, seed);
  sequence.completion_begin = completion_begin;
  sequence.objective = objective;
  sequence.weight = weight;
  return sequence;
}

inline std::vector<TrainSequence> PortableLesson() {
  std::vector<TrainSequence> lesson = {PortableSequence(Objective::kCrossEntropy, 40, 9, 1, 0.5f),
                                       PortableSequence(Objective::kDown, 70, 5, 2, 0.3f),
                                       PortableSequence(Objective::kAnchor, 12, 1, 3, 2.0f),
                                       PortableSequence(Objective::kCrossEntropy, 2, 1, 4, 0.5f)};
  lesson[0].keep = 1.5f;
  lesson[0].reach_floor = 0.25f;
  return lesson;
}

inline LoraWeights PortableAdapter(const FrozenWeights& weights) {
  return RandomAdapter(weights.AdapterShape(3, 5, kAllModules), 11, 0.2f);
}

// The adapter after kPortableSteps of the lesson, each the same.
inline LoraWeights PortableRun(const std::shared_ptr<const FrozenWeights>& weights,
                               const ParallelFor& parallel) {
  LoraWeights adapter = PortableAdapter(*weights);
  Trainer trainer(weights, kPortableLimits);
  AdamW optimizer(adapter.values.size());
  std::vector<float> gradient(adapter.values.size());
  const auto lesson = PortableLesson();
  for (int step = 0; step < kPortableSteps; ++step) {
    const auto losses = trainer.Gradients(adapter, lesson, parallel, gradient);
    BOOST_REQUIRE_MESSAGE(losses.ok(), (losses ? "" : losses.error().message));
    BOOST_REQUIRE(optimizer.Step({}, gradient, adapter.values, parallel).ok());
  }
  return adapter;
}

}  // namespace nudge::testing
