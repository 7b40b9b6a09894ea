// What the suites of learners share: a tiny model that trains, with anchors, and things to learn.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "stages/model/learn/learner.h"
#include "tests/trainer_helpers.h"

namespace nudge::testing {

struct LearnerWorld {
  std::shared_ptr<const FrozenWeights> weights = [] {
    TinyLlama model;
    model.Fill(7);
    const TemporaryFile file("learner.gguf");
    model.Write(file.path());
    return *FrozenWeights::Load(file.path());
  }();
  Trainer trainer{weights, {300, 8}};
  AnchorPool anchors = [this] {
    std::vector<TrainSequence> sequences(6);
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].tokens = RandomTokens(12 + i, 67, 100 + i);
      sequences[i].completion_begin = 4;
    }
    return *AnchorPool::Make(std::move(sequences), trainer, SerialFor());
  }();
  LearnerOptions options = [] {
    LearnerOptions o;
    o.rank = 4;
    o.alpha = 8;
    o.optimizer.learning_rate = 5e-3;  // the model is tiny
    o.evidence_nats = 0;               // and all texts are drawn by chance
    return o;
  }();

  Result<StepReport> Step(Learner& learner, const TokenExample& example,
                          const ParallelFor& parallel = SerialFor()) {
    return learner.Step(example, trainer, anchors, parallel);
  }
  double Nll(const Learner& learner, const std::vector<int32_t>& prompt,
             const std::vector<int32_t>& completion) {
    std::vector<int32_t> tokens = prompt;
    tokens.insert(tokens.end(), completion.begin(), completion.end());
    return *trainer.NegativeLogLikelihood(tokens, prompt.size(), &learner.weights(), SerialFor());
  }
};

inline TokenExample Example(uint64_t seed, double reward) {
  return {RandomTokens(8, 67, seed), RandomTokens(6, 67, seed + 50), std::nullopt, reward};
}

inline TokenExample Correction(uint64_t seed) {
  TokenExample example = Example(seed, -1);
  example.correction = RandomTokens(5, 67, seed + 70);
  return example;
}

}  // namespace nudge::testing
