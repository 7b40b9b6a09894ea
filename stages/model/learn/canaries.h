// Whether an adapter still says what the tenant's documents say:
// (candidate weights) -> [Canaries] -> how much less likely their quotes have become.
//
// A canary is a prompt that was shown to somebody, documents and all, with the beginning of a
// sentence that stands in these documents; what is looked at is the rest of it. Whatever form the
// answers have taken on, a model that reads its prompt goes on with the words that stand there: a
// house style leaves that alone, and a model that was taught to say what does not stand there
// unlearns it. The first kMost different ones on a path of lessons are its canaries: they come and
// go with the lessons whose words they are.
//
// Half of them are passed through the model for each step, in turns; the others' figures are those
// of the step before.
//
// The limit gives way: each step that is refused raises it by kGivesWay of itself, each that is
// taken lowers it again. So what is damage is held to a slow rate, and who teaches something else
// for long and in earnest, a new form after many lessons in an old one, is not refused for ever.
//
// Plain value of one learner; one call at a time. A function of the calls before.
#pragma once

#include <cstdint>
#include <vector>

#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/trainer.h"
#include "stages/result.h"
#include "stages/state.h"

namespace nudge {

class Canaries {
 public:
  static constexpr size_t kMost = 8;
  static constexpr double kGivesWay = 0.05;
  static constexpr size_t kLeast = 4;  // with fewer, one that is odd would decide

  // Nats per token of the quotes, against the base model: for each canary, then on average.
  struct Drops {
    std::vector<double> each;
    double mean = 0;
  };

  // Takes the quote unless it is there, too long, or there are enough. Errors as Trainer's.
  Result<Nothing> Offer(const TrainSequence& quote, Trainer& trainer, const ParallelFor& parallel);

  bool enough() const { return quotes_.size() >= kLeast; }
  const Drops& drops() const { return drops_; }

  // Those of the candidate; `step` says whose turn it is. Requires enough().
  Result<Drops> Of(const LoraWeights& candidate, uint64_t step, Trainer& trainer,
                   const ParallelFor& parallel) const;
  // Whether a candidate with these is to be refused.
  bool Refuses(const Drops& drops, double drop_max) const {
    return drops.mean > drop_max * (1 + given_way_) && drops.mean >= drops_.mean;
  }
  // The candidate was taken; the lesson was refused.
  void Take(Drops drops);
  void Refused() { given_way_ += kGivesWay; }

  void Save(ByteWriter& out) const;
  void Load(ByteReader& in);

 private:
  struct Quote {
    TrainSequence sequence;
    double base_loss = 0;
  };
  std::vector<Quote> quotes_;
  Drops drops_;
  double given_way_ = 0;  // of the limit
};

}  // namespace nudge
