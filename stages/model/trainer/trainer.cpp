#include "stages/model/trainer/trainer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "stages/model/trainer/functions.h"
#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/kernels.h"
#include "stages/model/trainer/llama_pass.h"
#include "stages/model/trainer/part_times.h"

namespace nudge {

namespace {

constexpr size_t kHeadRows = 64;  // rows of logits in memory at a time

// A row whose next token belongs to a completion.
struct HeadRow {
  size_t row = 0;                      // in the batch
  size_t target = 0;                   // the next token
  const float* base_hidden = nullptr;  // [hidden] for an anchor and with keep, else null
  bool keeps = false;
};

Error Refused(const std::string& message) {
  return {Code::kModelFailed, message, "shorten the text"};
}

Error WrongAdapter(const std::string& message) {
  return {Code::kWrongAdapter, message, "use an adapter made for this base model"};
}

// Beside the pass through the layers: Trainer::Work's arrays.
size_t HeadBytes(const LlamaShape& shape, const TrainerLimits& limits) {
  return sizeof(float) *
         (2 * kHeadRows * (shape.vocabulary + shape.hidden) + 3 * limits.max_tokens * shape.hidden);
}

bool Keeps(const TrainSequence& sequence) {
  return sequence.keep != 0 && sequence.objective != Objective::kAnchor;
}

bool NeedsBaseHidden(const TrainSequence& sequence) {
  return sequence.objective == Objective::kAnchor || Keeps(sequence);
}

double Sigmoid(double x) {
  return 1 / (1 + Exponential(-x));
}

// The weights of a completion's tokens from their log-probabilities, whose sum is 1.
std::vector<double> ReachWeights(std::span<const double> log_probabilities, double floor) {
  std::vector<double> weights;
  double least = 0;
  double sum = 0;
  for (const double log_probability : log_probabilities) {
    weights.push_back(floor + (1 - floor) * Exponential(least));
    sum += weights.back();
    least = std::min(least, log_probability);
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

}  // namespace

class Trainer::Work {
 public:
  Work(std::shared_ptr<const FrozenWeights> weights, TrainerLimits limits)
      : weights_(std::move(weights)),
        shape_(weights_->shape()),
        limits_(limits),
        pass_(weights_, limits.max_tokens, limits.max_rank,
              limits.bytes_max - HeadBytes(shape_, limits)),
        logits_(AllocateFloats(kHeadRows * shape_.vocabulary)),
        base_logits_(AllocateFloats(kHeadRows * shape_.vocabulary)),
        head_input_(AllocateFloats(kHeadRows * shape_.hidden)),
        base_input_(AllocateFloats(kHeadRows * shape_.hidden)),
        d_head_(AllocateFloats(limits.max_tokens * shape_.hidden)),
        d_keep_(AllocateFloats(limits.max_tokens * shape_.hidden)),
        base_hidden_(AllocateFloats(limits.max_tokens * shape_.hidden)) {
    tokens_.reserve(limits.max_tokens);
    head_rows_.reserve(limits.max_tokens);
    results_.reserve(limits.max_tokens);
  }

  const FrozenWeights& weights() const { return *weights_; }
  const TrainerLimits& limits() const { return limits_; }
  size_t LayersComputedAgain(size_t rows) const { return shape_.layers - pass_.LayersKept(rows); }
  size_t Bytes(size_t rows) const {
    return HeadBytes(shape_, limits_) +
           LlamaPass::Bytes(shape_, rows, limits_.max_rank, pass_.LayersKept(rows));
  }
  std::span<float> GradientScratch(size_t size) {
    if (gradient_.size() < size) gradient_.resize(size);
    return std::span(gradient_).first(size);
  }

  std::optional<Error> CheckTokens(std::span<const int32_t> tokens, size_t completion_begin) const;
  // With an empty gradient, the losses alone.
  Result<StepLosses> Gradients(const LoraWeights& adapter, std::span<const TrainSequence> sequences,
                               const ParallelFor& parallel, std::span<float> gradient);
  Result<double> LogProbability(std::span<const int32_t> tokens, size_t completion_begin,
                                const LoraWeights* adapter, const ParallelFor& parallel);
  Result<std::vector<float>> BaseHidden(std::span<const int32_t> tokens, size_t completion_begin,
                                        const ParallelFor& parallel);
  Result<std::vector<float>> Logits(std::span<const int32_t> tokens, const LoraWeights* adapter,
                                    const ParallelFor& parallel);

 private:
  std::optional<Error> CheckAdapter(const LoraWeights& adapter) const;
  std::optional<Error> Check(std::span<const TrainSequence> sequences) const;

  void StartPacking();
  void Pack(std::span<const int32_t> tokens, size_t completion_begin, const float* base_hidden,
            bool keeps = false);
  PackedRows Packed() const { return {tokens_, sequences_}; }

  void BaseOfSequences(std::span<const TrainSequence> sequences, const ParallelFor& parallel);
  void RunHead(bool gradient, const ParallelFor& parallel);
  void RunHeadChunk(size_t first, size_t count, bool gradient, const ParallelFor& parallel);
  void NormTo(const float* hidden, float* normed) const;
  double Combine(const TrainSequence& sequence, size_t index, size_t first, SequenceLoss& loss);
  void SpreadHeadGradient(const ParallelFor& parallel);

  std::shared_ptr<const FrozenWeights> weights_;
  const LlamaShape& shape_;
  TrainerLimits limits_;
  LlamaPass pass_;

  std::vector<int32_t> tokens_;  // the packed batch
  std::vector<PackedSequence> sequences_;
  std::vector<HeadRow> head_rows_;  // in the batch's order
  std::vector<double> results_;     // of each head row: log pi, or KL
  std::vector<double> kept_;        // of each head row: KL among what is not the target
  std::vector<float> row_weights_;  // of each head row: its loss's share in the step's loss
  std::vector<float> keep_weights_;
  std::vector<size_t> base_begin_;  // of each sequence: its first row of base_hidden_
  std::vector<double> base_log_;    // of each sequence: log pi_base of its completion

  std::vector<float> gradient_;  // GradientScratch

  AlignedFloats logits_;       // [kHeadRows, vocabulary], then their gradient
  AlignedFloats base_logits_;  // [kHeadRows, vocabulary]
  AlignedFloats head_input_;   // [kHeadRows, hidden]
  AlignedFloats base_input_;   // [kHeadRows, hidden]
  AlignedFloats d_head_;       // [head rows, hidden], for a weight of 1
  AlignedFloats d_keep_;       // the same of kept_
  AlignedFloats base_hidden_;  // [head rows of anchors and with keep, hidden]
};

std::optional<Error> Trainer::Work::CheckAdapter(const LoraWeights& adapter) const {
  const LoraShape& shape = adapter.shape;
  if (shape.rank < 1 || shape.rank > limits_.max_rank) {
    return WrongAdapter("rank " + std::to_string(shape.rank) + " is outside 1.." +
                        std::to_string(limits_.max_rank));
  }
  if (shape != weights_->AdapterShape(shape.rank, shape.alpha, shape.enabled) ||
      adapter.values.size() != shape.Size()) {
    return WrongAdapter("the adapter's shape is not that of the base model");
  }
  if (!std::isfinite(shape.alpha) || !AllFinite(adapter.values.data(), adapter.values.size())) {
    return WrongAdapter("the adapter has numbers that are not finite");
  }
  return std::nullopt;
}

std::optional<Error> Trainer::Work::CheckTokens(std::span<const int32_t> tokens,
                                                size_t completion_begin) const {
  const size_t most = std::min(limits_.max_tokens, shape_.context);
  if (completion_begin < 1) return Refused("a sequence without prompt");
  if (completion_begin >= tokens.size()) return Refused("a sequence without completion");
  if (tokens.size() - 1 > most) {
    return Refused("a sequence of " + std::to_string(tokens.size()) + " tokens; the limit is " +
                   std::to_string(most + 1));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= shape_.vocabulary) {
      return Refused("token id " + std::to_string(token) + " is outside the vocabulary");
    }
  }
  return std::nullopt;
}

std::optional<Error> Trainer::Work::Check(std::span<const TrainSequence> sequences) const {
  size_t rows = 0;
  for (const TrainSequence& sequence : sequences) {
    if (auto error = CheckTokens(sequence.tokens, sequence.completion_begin)) return error;
    rows += sequence.tokens.size() - 1;
    const size_t completion = sequence.tokens.size() - sequence.completion_begin;
    if (!std::isfinite(sequence.weight) || !std::isfinite(sequence.beta) ||
        !std::isfinite(sequence.keep) ||
        !(sequence.reach_floor >= 0 && sequence.reach_floor <= 1)) {
      return Refused(
          "a sequence's weight, beta or keep is not finite, or its reach_floor not 0..1");
    }
    if (sequence.base_hidden && sequence.base_hidden->size() != completion * shape_.hidden) {
      return Refused("base hidden states of another length than the completion");
    }
  }
  if (sequences.empty()) return Refused("a step without sequences");
  if (rows > limits_.max_tokens) {
    return Refused("a step of " + std::to_string(rows) + " tokens; the limit is " +
                   std::to_string(limits_.max_tokens));
  }
  return std::nullopt;
}

void Trainer::Work::StartPacking() {
  tokens_.clear();
  sequences_.clear();
  head_rows_.clear();
}

// The last token predicts nothing that is trained on: it gets no row.
void Trainer::Work::Pack(std::span<const int32_t> tokens, size_t completion_begin,
                         const float* base_hidden, bool keeps) {
  const size_t begin = tokens_.size();
  sequences_.push_back({begin, tokens.size() - 1});
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end() - 1);
  for (size_t next = completion_begin; next < tokens.size(); ++next) {
    head_rows_.push_back({begin + next - 1, static_cast<size_t>(tokens[next]), base_hidden, keeps});
    if (base_hidden != nullptr) base_hidden += shape_.hidden;
  }
}

void Trainer::Work::NormTo(const float* hidden, float* normed) const {
  RmsNorm(hidden, weights_->final_norm().data(), 1, shape_.hidden, shape_.norm_epsilon, normed);
}

void Trainer::Work::RunHeadChunk(size_t first, size_t count, bool gradient,
                                 const ParallelFor& parallel) {
  const FrozenMatrix& head = weights_->head();
  const size_t hidden = shape_.hidden;
  const size_t vocabulary = shape_.vocabulary;
  const bool has_base = head_rows_[first].base_hidden != nullptr;
  const bool keeps = head_rows_[first].keeps;
  for (size_t i = 0; i < count; ++i) {
    const HeadRow& row = head_rows_[first + i];
    NormTo(pass_.Hidden() + row.row * hidden, head_input_.get() + i * hidden);
    if (has_base) std::copy_n(row.base_hidden, hidden, base_input_.get() + i * hidden);
  }
  const Tiles logits(count, vocabulary);
  RunParts(parallel, has_base ? 2 * logits.size() : logits.size(), [&](size_t part) {
    const PartTimer timer(StepPart::kHead);
    const bool base = part >= logits.size();
    head.Forward(logits[part % logits.size()], base ? base_input_.get() : head_input_.get(), hidden,
                 false, base ? base_logits_.get() : logits_.get(), vocabulary);
  });
  RunParts(parallel, count, [&](size_t i) {
    const PartTimer timer(StepPart::kHead);
    float* row = logits_.get() + i * vocabulary;
    float* base = base_logits_.get() + i * vocabulary;
    const size_t target = head_rows_[first + i].target;
    if (keeps) kept_[first + i] = KlOfOthers(base, row, vocabulary, target);
    results_[first + i] = has_base && !keeps ? KlFromBase(base, row, vocabulary)
                                             : LogSoftmaxAt(row, vocabulary, target);
  });
  if (!gradient) return;
  const Tiles inputs(count, hidden);
  RunParts(parallel, keeps ? 2 * inputs.size() : inputs.size(), [&](size_t part) {
    const PartTimer timer(StepPart::kHead);
    const bool kept = part >= inputs.size();
    head.Backward(inputs[part % inputs.size()], kept ? base_logits_.get() : logits_.get(),
                  vocabulary, (kept ? d_keep_.get() : d_head_.get()) + first * hidden, hidden);
  });
}

// Fills results_ and kept_, and with `gradient` d_head_ and d_keep_ for row weights of 1 on -log pi
// or KL.
void Trainer::Work::RunHead(bool gradient, const ParallelFor& parallel) {
  results_.assign(head_rows_.size(), 0);
  kept_.assign(head_rows_.size(), 0);
  size_t first = 0;
  while (first < head_rows_.size()) {
    const HeadRow& row = head_rows_[first];
    const auto alike = [&row](const HeadRow& other) {
      return other.keeps == row.keeps &&
             (other.base_hidden != nullptr) == (row.base_hidden != nullptr);
    };
    size_t count = 1;
    while (count < kHeadRows && first + count < head_rows_.size() &&
           alike(head_rows_[first + count])) {
      ++count;
    }
    RunHeadChunk(first, count, gradient, parallel);
    first += count;
  }
}

// Base hidden states of anchors and of what keeps, and base log-probabilities of downs, where the
// caller has none.
void Trainer::Work::BaseOfSequences(std::span<const TrainSequence> sequences,
                                    const ParallelFor& parallel) {
  base_begin_.assign(sequences.size(), 0);
  base_log_.assign(sequences.size(), 0);
  const auto needs_hidden = [](const TrainSequence& s) {
    return NeedsBaseHidden(s) && !s.base_hidden;
  };
  const auto needs_log = [](const TrainSequence& s) {
    return s.objective == Objective::kDown && !s.base_log_probability;
  };
  size_t rows = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const TrainSequence& sequence = sequences[i];
    if (sequence.base_log_probability) base_log_[i] = *sequence.base_log_probability;
    if (!needs_hidden(sequence) && !needs_log(sequence)) continue;
    // One sequence at a time: the bits are those of BaseHidden and LogProbability.
    StartPacking();
    Pack(sequence.tokens, sequence.completion_begin, nullptr);
    pass_.Forward(Packed(), nullptr, false, parallel);
    if (needs_log(sequence)) {
      RunHead(false, parallel);
      for (const double result : results_) base_log_[i] += result;
    }
    if (needs_hidden(sequence)) {
      base_begin_[i] = rows;
      for (const HeadRow& row : head_rows_) {
        NormTo(pass_.Hidden() + row.row * shape_.hidden,
               base_hidden_.get() + rows++ * shape_.hidden);
      }
    }
  }
}

// A sequence's loss from its rows' results; sets the weights of those rows. Returns weight * loss.
double Trainer::Work::Combine(const TrainSequence& sequence, size_t index, size_t first,
                              SequenceLoss& loss) {
  const size_t count = sequence.tokens.size() - sequence.completion_begin;
  const std::span results = std::span(results_).subspan(first, count);
  double sum = 0;
  for (const double result : results) sum += result;
  const auto weight = static_cast<double>(sequence.weight);
  double row_weight = weight / static_cast<double>(count);
  if (sequence.objective == Objective::kDown) {
    const auto beta = static_cast<double>(sequence.beta);
    loss.loss = Sigmoid(beta * (sum - base_log_[index]));
    row_weight = -weight * beta * loss.loss * (1 - loss.loss);
  } else {
    const double mean = sum / static_cast<double>(count);
    loss.loss = sequence.objective == Objective::kAnchor ? mean : -mean;
  }
  if (sequence.objective != Objective::kAnchor) loss.log_probability = sum;
  const auto begin = static_cast<std::ptrdiff_t>(first);
  std::fill_n(row_weights_.begin() + begin, count, static_cast<float>(row_weight));
  if (sequence.objective == Objective::kCrossEntropy && sequence.reach_floor != 1) {
    const auto reached = ReachWeights(results, static_cast<double>(sequence.reach_floor));
    loss.loss = 0;
    for (size_t i = 0; i < count; ++i) {
      loss.loss -= reached[i] * results[i];
      row_weights_[first + i] = static_cast<float>(weight * reached[i]);
    }
  }
  if (!Keeps(sequence)) return weight * loss.loss;
  for (size_t i = 0; i < count; ++i) loss.kept += kept_[first + i];
  loss.kept /= static_cast<double>(count);
  const double keep = weight * static_cast<double>(sequence.keep);
  std::fill_n(keep_weights_.begin() + begin, count,
              static_cast<float>(keep / static_cast<double>(count)));
  return weight * loss.loss + keep * loss.kept;
}

// Through the final norm to the rows of the last block; rows before a completion get zero.
void Trainer::Work::SpreadHeadGradient(const ParallelFor& parallel) {
  const size_t hidden = shape_.hidden;
  std::fill_n(pass_.HiddenGradient(), tokens_.size() * hidden, 0.0f);
  RunRows(parallel, head_rows_.size(), [&](size_t begin, size_t count) {
    for (size_t i = begin; i < begin + count; ++i) {
      float* gradient = d_head_.get() + i * hidden;
      const size_t at = head_rows_[i].row * hidden;
      Scale(gradient, row_weights_[i], hidden, gradient);
      if (head_rows_[i].keeps) {
        float* kept = d_keep_.get() + i * hidden;
        Scale(kept, keep_weights_[i], hidden, kept);
        Add(kept, hidden, gradient);
      }
      RmsNormBackward(pass_.Hidden() + at, weights_->final_norm().data(), gradient, 1, hidden,
                      shape_.norm_epsilon, pass_.HiddenGradient() + at);
    }
  });
}

Result<StepLosses> Trainer::Work::Gradients(const LoraWeights& adapter,
                                            std::span<const TrainSequence> sequences,
                                            const ParallelFor& parallel,
                                            std::span<float> gradient) {
  if (auto error = CheckAdapter(adapter)) return *error;
  if (auto error = Check(sequences)) return *error;
  const bool with_gradient = !gradient.empty();
  BaseOfSequences(sequences, parallel);
  StartPacking();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const TrainSequence& sequence = sequences[i];
    const float* base = nullptr;
    if (NeedsBaseHidden(sequence)) {
      base = sequence.base_hidden ? sequence.base_hidden->data()
                                  : base_hidden_.get() + base_begin_[i] * shape_.hidden;
    }
    Pack(sequence.tokens, sequence.completion_begin, base, Keeps(sequence));
  }
  pass_.Forward(Packed(), &adapter, with_gradient, parallel);
  RunHead(with_gradient, parallel);

  StepLosses losses;
  losses.tokens = tokens_.size();
  losses.sequences.resize(sequences.size());
  row_weights_.assign(head_rows_.size(), 0);
  keep_weights_.assign(head_rows_.size(), 0);
  size_t first = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    losses.total += Combine(sequences[i], i, first, losses.sequences[i]);
    first += sequences[i].tokens.size() - sequences[i].completion_begin;
  }
  if (!std::isfinite(losses.total)) return Refused("the loss is not finite");
  if (!with_gradient) return losses;
  SpreadHeadGradient(parallel);
  pass_.Backward(Packed(), adapter, gradient, parallel);
  losses.gradient_norm = std::sqrt(SumOfSquares(gradient.data(), gradient.size()));
  if (!std::isfinite(losses.gradient_norm)) return Refused("the gradient is not finite");
  return losses;
}

Result<double> Trainer::Work::LogProbability(std::span<const int32_t> tokens,
                                             size_t completion_begin, const LoraWeights* adapter,
                                             const ParallelFor& parallel) {
  if (adapter != nullptr) {
    if (auto error = CheckAdapter(*adapter)) return *error;
  }
  if (auto error = CheckTokens(tokens, completion_begin)) return *error;
  StartPacking();
  Pack(tokens, completion_begin, nullptr);
  pass_.Forward(Packed(), adapter, false, parallel);
  RunHead(false, parallel);
  double sum = 0;
  for (const double result : results_) sum += result;
  if (!std::isfinite(sum)) return Refused("the log-probability is not finite");
  return sum;
}

Result<std::vector<float>> Trainer::Work::BaseHidden(std::span<const int32_t> tokens,
                                                     size_t completion_begin,
                                                     const ParallelFor& parallel) {
  if (auto error = CheckTokens(tokens, completion_begin)) return *error;
  StartPacking();
  Pack(tokens, completion_begin, nullptr);
  pass_.Forward(Packed(), nullptr, false, parallel);
  std::vector<float> hidden(head_rows_.size() * shape_.hidden);
  for (size_t i = 0; i < head_rows_.size(); ++i) {
    NormTo(pass_.Hidden() + head_rows_[i].row * shape_.hidden, hidden.data() + i * shape_.hidden);
  }
  return hidden;
}

Result<std::vector<float>> Trainer::Work::Logits(std::span<const int32_t> tokens,
                                                 const LoraWeights* adapter,
                                                 const ParallelFor& parallel) {
  if (adapter != nullptr) {
    if (auto error = CheckAdapter(*adapter)) return *error;
  }
  // One more token is added, since a batch has rows only for tokens that another one follows.
  std::vector<int32_t> longer(tokens.begin(), tokens.end());
  longer.push_back(0);
  if (auto error = CheckTokens(longer, 1)) return *error;
  StartPacking();
  Pack(longer, 1, nullptr);
  pass_.Forward(Packed(), adapter, false, parallel);
  const size_t rows = tokens.size();
  std::vector<float> normed(rows * shape_.hidden);
  std::vector<float> logits(rows * shape_.vocabulary);
  RmsNorm(pass_.Hidden(), weights_->final_norm().data(), rows, shape_.hidden, shape_.norm_epsilon,
          normed.data());
  const Tiles tiles(rows, shape_.vocabulary);
  RunParts(parallel, tiles.size(), [&](size_t part) {
    weights_->head().Forward(tiles[part], normed.data(), shape_.hidden, false, logits.data(),
                             shape_.vocabulary);
  });
  return logits;
}

Trainer::Trainer(std::shared_ptr<const FrozenWeights> weights, TrainerLimits limits) {
  if (weights == nullptr || limits.max_tokens < 2 || limits.max_rank < 1 || limits.max_rank > 64) {
    throw StartError("trainer: needs a model, max_tokens of at least 2 and max_rank in 1..64");
  }
  if (const size_t least = LeastBytes(weights->shape(), limits); least > limits.bytes_max) {
    throw StartError("trainer: steps of " + std::to_string(limits.max_tokens) + " tokens need " +
                     std::to_string(least) + " bytes, and may take " +
                     std::to_string(limits.bytes_max));
  }
  work_ = std::make_unique<Work>(std::move(weights), limits);
}

Trainer::~Trainer() = default;
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;

const FrozenWeights& Trainer::weights() const {
  return work_->weights();
}
const TrainerLimits& Trainer::limits() const {
  return work_->limits();
}

size_t Trainer::LeastBytes(const LlamaShape& shape, const TrainerLimits& limits) {
  return HeadBytes(shape, limits) + LlamaPass::Bytes(shape, limits.max_tokens, limits.max_rank, 1);
}

size_t Trainer::MostBytes(const LlamaShape& shape, const TrainerLimits& limits) {
  const size_t all = HeadBytes(shape, limits) +
                     LlamaPass::Bytes(shape, limits.max_tokens, limits.max_rank, shape.layers);
  return std::min(limits.bytes_max, all);
}

size_t Trainer::LayersComputedAgain(size_t rows) const {
  return work_->LayersComputedAgain(rows);
}
size_t Trainer::Bytes(size_t rows) const {
  return work_->Bytes(rows);
}

Result<StepLosses> Trainer::Gradients(const LoraWeights& adapter,
                                      std::span<const TrainSequence> sequences,
                                      const ParallelFor& parallel, std::span<float> gradient) {
  ENSURE(gradient.size() == adapter.shape.Size() && !gradient.empty());
  return work_->Gradients(adapter, sequences, parallel, gradient);
}

std::span<float> Trainer::GradientScratch(size_t size) {
  return work_->GradientScratch(size);
}

Result<StepLosses> Trainer::Losses(const LoraWeights& adapter,
                                   std::span<const TrainSequence> sequences,
                                   const ParallelFor& parallel) {
  return work_->Gradients(adapter, sequences, parallel, {});
}

Result<double> Trainer::LogProbability(std::span<const int32_t> tokens, size_t completion_begin,
                                       const LoraWeights* adapter, const ParallelFor& parallel) {
  return work_->LogProbability(tokens, completion_begin, adapter, parallel);
}

Result<double> Trainer::NegativeLogLikelihood(std::span<const int32_t> tokens,
                                              size_t completion_begin, const LoraWeights* adapter,
                                              const ParallelFor& parallel) {
  auto sum = work_->LogProbability(tokens, completion_begin, adapter, parallel);
  if (!sum) return sum.error();
  return -*sum / static_cast<double>(tokens.size() - completion_begin);
}

Result<std::vector<float>> Trainer::BaseHidden(std::span<const int32_t> tokens,
                                               size_t completion_begin,
                                               const ParallelFor& parallel) {
  return work_->BaseHidden(tokens, completion_begin, parallel);
}

Result<Nothing> Trainer::CanUse(std::span<const int32_t> tokens, size_t completion_begin) const {
  if (auto error = work_->CheckTokens(tokens, completion_begin)) return *error;
  return Nothing{};
}

Result<std::vector<float>> Trainer::Logits(std::span<const int32_t> tokens,
                                           const LoraWeights* adapter,
                                           const ParallelFor& parallel) {
  return work_->Logits(tokens, adapter, parallel);
}

}  // namespace nudge
