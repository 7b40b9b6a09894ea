// The learning rule of one tenant's adapter, around the trainer:
// TokenExample -> [Learner] -> changed weights, StepReport.
//
// One example is one step. What is minimised, averaged over the new example and the replayed ones:
//   thumb up     cross-entropy of the shown completion, mean per token, times the reward; of an
//                answer of our own also times min(1, D / U), the step's length too: where
//                everything is liked, being liked says nothing, and an all-up stream moves nothing
//   correction   cross-entropy of the correction, and the shown completion as a thumb down
//   thumb down   w (1 - sigmoid(down_beta (0 - h))), h = sum of log pi - log pi_base over the
//   completion,
//                w = down_weight min(1, U / D), where U and D count ups and downs (a correction is
//                one of each) and fade by balance_decay an event: an all-down stream has w = 0 and
//                moves nothing, and where most are downs the step of one is as much shorter
// plus lambda times the mean of KL(base || adapter) over anchors_per_step neutral sequences.
// A step has as many tokens as the trainer takes: what does not fit is left out, and counted.
//
// Before a lesson is learnt it is asked whether it follows from what it is about (credit.h), and
// before a step is taken whether documents are still read (canaries.h). What does not pass is set
// aside, and tried once more with a later lesson of the same voice, as soon as that has credit.
//
// Where adapt.quorum_people asks for it, so is what too few people agree on (quorum.h).
//
// Who teaches more often than others has no more say: see influence.h. Earlier lessons are kept
// for each voice alike, and repeated the more seldom the older they are, by replay_decay a lesson
// of the same voice; a lesson takes the place of earlier ones of its voice to the same prompt. So
// who changes their mind is not held back by what they said before.
//
// Belongs to one tenant; one call at a time, any thread. Every choice is a hash of seed and step
// number, so that weights are a function of options, model, anchors and the examples in order.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/model/adapters/lora_codec.h"
#include "stages/model/learn/canaries.h"
#include "stages/model/learn/credit.h"
#include "stages/model/learn/influence.h"
#include "stages/model/learn/known_prompts.h"
#include "stages/model/learn/learner_options.h"
#include "stages/model/learn/left_out.h"
#include "stages/model/learn/verdict.h"
#include "stages/model/trainer/lora.h"
#include "stages/model/trainer/optimizer.h"
#include "stages/model/trainer/parallel.h"
#include "stages/model/trainer/trainer.h"
#include "stages/result.h"

namespace nudge {

// The options' problems, one line each, such as `adapt.rank: 0 is outside 1..64`; none if they are
// fine.
std::vector<std::string> Problems(const LearnerOptions& options);

// Of the adapters that a learner with these options makes.
LoraShape AdapterShape(const FrozenWeights& weights, const LearnerOptions& options);

// Neutral sequences that hold the adapter near the base model, shared by all learners of a model.
// What the base model says about them is computed once and kept, exactly: its hidden states at the
// completion's rows, a 1/85 of its logits for SmolLM2-135M. Anchors that find no room under the
// limit are passed through the base model again at each step that draws them: the same bits.
class AnchorPool {
 public:
  AnchorPool() = default;

  // Errors as Trainer's for the first sequence that cannot be used. Weight and objective are set
  // here; only tokens and completion_begin count.
  static Result<AnchorPool> Make(std::vector<TrainSequence> sequences, Trainer& trainer,
                                 const ParallelFor& parallel, size_t bytes_max = kBytesMax);
  static constexpr size_t kBytesMax = size_t{64} << 20;

  const std::vector<TrainSequence>& sequences() const { return sequences_; }

 private:
  std::vector<TrainSequence> sequences_;
};

struct TokenExample {
  std::vector<int32_t> prompt;            // as shown, at least one token
  std::vector<int32_t> shown_completion;  // may be empty with a correction
  std::optional<std::vector<int32_t>> correction;
  double reward = 0;                   // -1..1; without meaning beside a correction
  Voice voice;                         // who taught it
  bool own_answer = false;             // what was shown is the model's own
  uint64_t place = 0;                  // names it in reports
  std::optional<TrainSequence> quote;  // a canary to be, see canaries.h
};

struct StepReport {
  double nll_before = 0;  // nats per token of the correction, else of the shown completion, before
                          // this step: the prequential score
  std::optional<double> nll_after;  // the same behind it, of a step that was taken
  double loss = 0;                  // what the step minimised
  double kl = 0;                    // mean of the step's anchors, before the step
  double lambda = 0;
  double gradient_norm = 0;
  bool accepted = false;  // false: the verdict says why not
  LessonVerdict verdict = LessonVerdict::kLearnt;
  std::optional<double> evidence;  // nats, see credit.h; none: nothing to compare with
  double canary_drop = 0;          // nats per token, see canaries.h: behind the step, taken or not
  std::optional<uint64_t> learnt_after_all;  // a lesson set aside before: its place
  std::vector<uint64_t> refused_for_good;    // such, tried for the last time or one too many
  size_t tokens = 0;  // rows through the model; 0 where there was nothing to learn
  LeftOut left_out;   // 0 where there was nothing to learn
};

struct LearnerCounts {
  uint64_t steps = 0;  // accepted
  uint64_t corrections = 0;
  uint64_t ups = 0;
  uint64_t downs = 0;
  uint64_t refused = 0;    // for good
  uint64_t set_aside = 0;  // ever

  friend bool operator==(const LearnerCounts&, const LearnerCounts&) = default;
};

class Learner {
 public:
  // From a NewAdapter: the base model exactly. Throws StartError for options with Problems.
  Learner(const FrozenWeights& weights, const LearnerOptions& options);

  // One step. Errors: kInvalidEvent (reward outside -1..1, or 0 without correction; nothing was
  // shown), kModelFailed and kWrongAdapter as Trainer::Gradients. After an error everything is as
  // before; after a refused step weights, moments and replay are; counts have moved, and where it
  // went over kl_cap the next one is shorter and nearer to the anchors.
  Result<StepReport> Step(const TokenExample& example, Trainer& trainer, const AnchorPool& anchors,
                          const ParallelFor& parallel);

  // Goes on from other weights (rollback, import), or with nullptr from the start. Moments and the
  // anchor's state start anew, replay and counts stay. Error kWrongAdapter: another shape, or
  // numbers that are not finite; nothing has changed.
  Result<Nothing> Adopt(const LoraWeights* weights);

  const LoraWeights& weights() const { return weights_; }
  std::string digest() const { return Digest(weights_); }
  const LearnerCounts& counts() const { return counts_; }

  // Everything but the options, little-endian, with version and SHA-256.
  std::string Save() const;

  // Errors: kUnreadableFile (damaged or of another version), kWrongAdapter (saved with another
  // rank, alpha, modules or model).
  static Result<Learner> Load(std::string_view bytes, const FrozenWeights& weights,
                              const LearnerOptions& options);

 private:
  // An example ready for the trainer. The weights of `up` and `down` hold the size of the reward
  // alone: the factors from U and D change from event to event, so they are computed at every use.
  struct ReplayItem {
    Voice voice;
    bool own_answer = false;
    uint64_t place = 0;
    std::optional<double> evidence;
    double age = 0;  // in lessons of the same voice, surprising ones count more
    std::optional<TrainSequence> up;
    std::optional<TrainSequence> down;
  };
  // Faded counts of ups and downs.
  struct Tally {
    double ups = 0;
    double downs = 0;
  };
  struct StepBatch {
    std::vector<TrainSequence> sequences;  // of the new item, then of earlier ones, then anchors
    size_t anchors_begin = 0;
    double lambda = 0;
    double strength = 0;  // of the step, 0..1: AdamW forgets how large a gradient is
    LeftOut left_out;
    std::map<Voice, double> shares;
    size_t voices = 0;  // that have a say in it
  };
  // One thread of use: what a step needs of others.
  struct Means {
    Trainer& trainer;
    const AnchorPool& anchors;
    const ParallelFor& parallel;
  };
  static constexpr size_t kPromptsCompared = 2;
  static constexpr size_t kSetAsideMost = 64;
  static constexpr double kCreditToTryAgain = 1;
  static constexpr double kSurpriseLessons = 8;  // by which a nat of it ages earlier lessons
  static constexpr double kUsualSurprise = 0.5;  // nats

  // What an item is about: the text that is liked, if there is one.
  static const TrainSequence& MainOf(const ReplayItem& item) {
    return item.up ? *item.up : *item.down;
  }
  Tally TallyAfter(const TokenExample& example) const;
  static double Balance(const Tally& tally);  // min(1, U / D)
  double DownWeight(const Tally& tally) const;
  static double OwnUpWeight(const Tally& tally);
  bool MovesNothing(const ReplayItem& item, const Tally& tally) const;
  Result<ReplayItem> MakeItem(const TokenExample& example, StepReport& report,
                              const Means& means) const;
  Result<std::optional<double>> EvidenceOf(const ReplayItem& item, const Means& means) const;
  Result<bool> IsAgreedOn(const ReplayItem& item, const Means& means) const;
  StepBatch Pack(const ReplayItem& item, const ReplayItem* again, const Tally& tally,
                 const AnchorPool& anchors, size_t max_tokens) const;
  std::vector<uint64_t> Draw(uint64_t purpose, size_t count, size_t below) const;
  std::vector<const ReplayItem*> DrawEarlier(const ReplayItem& beside,
                                             const std::set<Voice>& voices, double share,
                                             size_t count) const;
  std::set<Voice> VoicesWith(const Voice& voice) const;
  static ReplayItem DropOneOfMost(std::deque<ReplayItem>& items);
  void Keep(ReplayItem item, double nll_before);
  void SetAside(ReplayItem item, StepReport& report);
  const ReplayItem* ToTryAgain(const Voice& voice, Credit& credit) const;
  void EndTrial(const Voice& voice, StepReport& report);
  Result<Nothing> Learn(const ReplayItem& item, const ReplayItem* again, const Tally& tally,
                        const Means& means, StepReport& report);
  Result<LessonVerdict> Move(std::span<const float> gradient, double strength,
                             std::span<const TrainSequence> anchors, const Means& means,
                             StepReport& report);
  void FollowBudget(double kl);
  void FollowCap();
  void Count(const TokenExample& example, const Tally& tally);
  void SaveItem(const ReplayItem& item, ByteWriter& out) const;
  ReplayItem LoadItem(ByteReader& in) const;

  LearnerOptions options_;
  LoraWeights weights_;
  AdamW optimizer_;
  std::deque<ReplayItem> replay_;     // the latest last
  std::deque<ReplayItem> set_aside_;  // the same
  KnownPrompts prompts_;
  Influence influence_;
  Credit credit_;
  Canaries canaries_;
  Tally tally_;
  double nll_ema_ = 0;  // of the texts of late, before their steps
  double lambda_ = 0;   // of the next step
  double stride_ = 1;   // share of a step that is taken, see FollowCap
  double kl_ema_ = 0;
  uint64_t events_ = 0;  // the counter behind every choice
  LearnerCounts counts_;
};

}  // namespace nudge
