// True gradients of a Llama language model with respect to the matrices of a LoRA adapter:
// (adapter, sequences with objectives) -> [Trainer] -> losses and a gradient.
//
// The same in plain formulas is trainer_reference.h: read that first. This one knows nothing of
// tenants, events or files. One instance serves one call at a time, from any
// thread; it holds the working memory, so that a call allocates next to nothing. What it computes
// is a function of its arguments alone, with the same bytes for any ParallelFor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

// With pi the adapted model, pi_base the same model without adapter, and the sums over completion
// tokens:
enum class Objective : uint8_t {
  kCrossEntropy,  // mean of -log pi
  kDown,          // 1 - sigmoid(beta (0 - h)), h = sum (log pi - log pi_base)
                  // (the undesirable side of Ethayarajh et al. 2024, reference point 0)
  kAnchor,        // mean of KL(pi_base || pi) over the whole vocabulary, in nats
};

struct TrainSequence {
  std::vector<int32_t> tokens;  // prompt, then completion
  size_t completion_begin = 0;  // 1 .. tokens.size() - 1
  Objective objective = Objective::kCrossEntropy;
  float weight = 1;  // the sequence adds weight * loss to the step's loss
  float beta = 1;    // of kDown

  // Not of kAnchor: the loss has keep * mean of KL(pi_base || pi) among the tokens that are not the
  // next one, so that what a text makes more or less likely is itself, and all else stays in
  // proportion (the part of the classes that are not the target, Zhao et al. 2022). 0: it has not.
  float keep = 0;

  // Of kCrossEntropy: the mean is weighted. A completion's token weighs reach_floor, and beyond it
  // (1 - reach_floor) times the least probability that pi gives to a token before it: what is
  // reached only behind a beginning that the model does not make yet comes after that beginning.
  // The weights have no gradient. 1: all tokens alike.
  float reach_floor = 1;  // 0 .. 1

  // What the base model says about the completion, if the caller kept it: from BaseHidden for
  // kAnchor and with keep, from LogProbability without adapter for kDown. Computed where absent:
  // the same bits.
  std::shared_ptr<const std::vector<float>> base_hidden;
  std::optional<double> base_log_probability;
};

struct SequenceLoss {
  double loss = 0;             // of its objective, without weight
  double log_probability = 0;  // sum over completion tokens of log pi; 0 for kAnchor
  double kept = 0;             // the mean that keep is the weight of
};

struct StepLosses {
  double total = 0;                     // sum of weight * loss
  double gradient_norm = 0;             // L2, before any clipping
  size_t tokens = 0;                    // rows that went through the model
  std::vector<SequenceLoss> sequences;  // as given
};

struct TrainerLimits {
  size_t max_tokens = 1024;  // rows of one step: sum over sequences of tokens.size() - 1
  uint32_t max_rank = 16;    // 1..64
  // What a step works in, beside the weights, the adapter and its gradient. A step that needs more
  // to keep all that its backward pass reads computes some of it again: longer, the same bits.
  size_t bytes_max = size_t{3} << 29;
};

class Trainer {
 public:
  // Memory grows with the tokens really used, up to the limits: for SmolLM2-135M 0.75 MB a token,
  // of which 0.15 MB cannot be computed again. Throws StartError for limits that go against each
  // other: bytes_max less than LeastBytes.
  Trainer(std::shared_ptr<const FrozenWeights> weights, TrainerLimits limits);
  ~Trainer();
  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) noexcept;

  const FrozenWeights& weights() const;
  const TrainerLimits& limits() const;

  // What the longest step needs at least, and what it takes: bytes_max, or less where all is kept.
  static size_t LeastBytes(const LlamaShape& shape, const TrainerLimits& limits);
  static size_t MostBytes(const LlamaShape& shape, const TrainerLimits& limits);

  // Layers that a step of `rows` computes twice, and the memory that it works in.
  size_t LayersComputedAgain(size_t rows) const;
  size_t Bytes(size_t rows) const;

  // All sequences go through the model as one packed batch. Writes d(total)/d(adapter.values) to
  // gradient. Requires gradient.size() == adapter.shape.Size().
  // Errors: kModelFailed (no sequence; one longer than the model's context; more rows than the
  // limit; no prompt or no completion; a token id outside the vocabulary; a loss or gradient that
  // is not finite), kWrongAdapter (another shape, a rank over the limit, values that are not
  // finite). After an error the gradient's contents are unspecified and nothing else has changed.
  Result<StepLosses> Gradients(const LoraWeights& adapter, std::span<const TrainSequence> sequences,
                               const ParallelFor& parallel, std::span<float> gradient);

  // `size` floats for a gradient, the same memory at every call: valid until the next one. What is
  // shared by all learners of a model need not be held by each, nor allocated at each step.
  std::span<float> GradientScratch(size_t size);

  // The same losses without a gradient; gradient_norm is 0. Errors as above.
  Result<StepLosses> Losses(const LoraWeights& adapter, std::span<const TrainSequence> sequences,
                            const ParallelFor& parallel);

  // Sum of log pi over the completion's tokens; null adapter: the base model. Errors as above.
  Result<double> LogProbability(std::span<const int32_t> tokens, size_t completion_begin,
                                const LoraWeights* adapter, const ParallelFor& parallel);

  // Mean of -log pi over the completion's tokens, in nats.
  Result<double> NegativeLogLikelihood(std::span<const int32_t> tokens, size_t completion_begin,
                                       const LoraWeights* adapter, const ParallelFor& parallel);

  // The base model's hidden states after the final norm at the rows that predict the completion,
  // [completion tokens, hidden]: what an anchor needs of the base model.
  Result<std::vector<float>> BaseHidden(std::span<const int32_t> tokens, size_t completion_begin,
                                        const ParallelFor& parallel);

  // Whether a sequence can be used. Errors as above.
  Result<Nothing> CanUse(std::span<const int32_t> tokens, size_t completion_begin) const;

  // Logits at every position, [tokens, vocabulary].
  Result<std::vector<float>> Logits(std::span<const int32_t> tokens, const LoraWeights* adapter,
                                    const ParallelFor& parallel);

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace nudge
