#include "stages/model/learn/canaries.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "stages/model/learn/sequence_codec.h"

namespace nudge {

Result<Nothing> Canaries::Offer(const TrainSequence& quote, Trainer& trainer,
                                const ParallelFor& parallel) {
  constexpr size_t kAtATime = kMost / 2;
  const size_t rows = quote.tokens.size() - 1;
  if (quotes_.size() >= kMost || rows * kAtATime > trainer.limits().max_tokens) return Nothing{};
  const auto is_there = [&](const Quote& one) { return one.sequence.tokens == quote.tokens; };
  if (std::any_of(quotes_.begin(), quotes_.end(), is_there)) return Nothing{};
  Result<double> loss =
      trainer.NegativeLogLikelihood(quote.tokens, quote.completion_begin, nullptr, parallel);
  if (!loss.ok()) return loss.error();
  quotes_.push_back({quote, *loss});
  quotes_.back().sequence.objective = Objective::kCrossEntropy;
  drops_.each.push_back(0);
  return Nothing{};
}

Result<Canaries::Drops> Canaries::Of(const LoraWeights& candidate, uint64_t step, Trainer& trainer,
                                     const ParallelFor& parallel) const {
  std::vector<TrainSequence> due;
  std::vector<size_t> which;
  for (size_t i = step % 2; i < quotes_.size(); i += 2) {
    due.push_back(quotes_[i].sequence);
    which.push_back(i);
  }
  Result<StepLosses> losses = trainer.Losses(candidate, due, parallel);
  if (!losses.ok()) return losses.error();
  Drops drops = drops_;
  for (size_t i = 0; i < which.size(); ++i) {
    drops.each[which[i]] = losses->sequences[i].loss - quotes_[which[i]].base_loss;
  }
  drops.mean = std::accumulate(drops.each.begin(), drops.each.end(), 0.0) /
               static_cast<double>(drops.each.size());
  return drops;
}

void Canaries::Take(Drops drops) {
  drops_ = std::move(drops);
  given_way_ = std::max(0.0, given_way_ - kGivesWay);
}

void Canaries::Save(ByteWriter& out) const {
  out.U64(quotes_.size());
  for (size_t i = 0; i < quotes_.size(); ++i) {
    WriteSequence(quotes_[i].sequence, out);
    out.F64(quotes_[i].base_loss);
    out.F64(drops_.each[i]);
  }
  out.F64(drops_.mean);
  out.F64(given_way_);
}

void Canaries::Load(ByteReader& in) {
  quotes_.clear();
  drops_ = {};
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    std::optional<TrainSequence> sequence = ReadSequence(Objective::kCrossEntropy, in);
    const double base_loss = in.F64();
    if (sequence) quotes_.push_back({std::move(*sequence), base_loss});
    drops_.each.push_back(in.F64());
  }
  drops_.mean = in.F64();
  given_way_ = in.F64();
}

}  // namespace nudge
