// What a browser does with a model: a GGUF's bytes -> [WebSession] -> lessons, answers, an adapter
// as a file.
//
// The trainer, the optimiser, the beginning of an adapter, the adapter files and the engine that
// answers are those of the server, with portable products: the same lessons end in the same bytes
// here and there, and so do the same questions. It knows token ids, not text (web_chat.h). One
// thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "connectors/web/module/lesson_log.h"
#include "connectors/web/module/web_answers.h"
#include "connectors/web/module/web_options.h"
#include "stages/model/adapters/adapter_file.h"
#include "stages/model/learn/learner.h"
#include "stages/model/trainer/optimizer.h"
#include "stages/model/trainer/trainer.h"
#include "stages/result.h"

namespace nudge {

class WebSession {
 public:
  // The bytes are read in place and kept; they begin on a boundary of 64. `parallel` runs the loops
  // of lessons; what it throws comes out of Learn and Teach. Errors as FrozenWeights::LoadBytes;
  // kModelFailed for options outside their ranges, and where there is no memory for a step.
  static Result<std::unique_ptr<WebSession>> Load(std::shared_ptr<const void> bytes, size_t count,
                                                  const WebOptions& options,
                                                  ParallelFor parallel = SerialFor());

  // One step of AdamW down the gradient of all sequences together, and nothing else. The losses
  // before it. Errors as Trainer::Gradients: nothing has changed.
  Result<StepLosses> Learn(std::span<const TrainSequence> sequences);

  // One lesson by the server's whole rule (learner.h): what it repeats, its anchors and its gates.
  // Errors as Learner::Step. Behind an error or an exception everything is as before.
  Result<StepReport> Teach(const TokenExample& example);
  // Neutral sequences that lessons hold the model near its base by; none before the first call.
  // Errors as AnchorPool::Make: those of before stay.
  Result<Nothing> SetAnchors(std::vector<TrainSequence> sequences);
  const LearnerCounts& counts() const { return learner_.counts(); }

  // Begins an answer, of the adapter as it is now or, where it is not `plugged`, of the base model;
  // what is learnt meanwhile does not change it. The first one takes the memory that answers need.
  // Errors as WebAnswers::Make and Begin: the answer is the one before.
  Result<Nothing> Ask(std::span<const int32_t> prompt, bool plugged);
  // As WebAnswers::Read and Next of the answer that was begun last; kModelFailed: there is none.
  Result<bool> Read();
  Result<std::optional<int32_t>> Next();
  std::span<const float> logits() const { return answers_->logits(); }  // requires an Ask

  // The adapter as llama.cpp and the server read it. kWrongAdapter: values beyond f16's, in f16.
  Result<std::string> Export(AdapterPrecision precision) const;

  // Takes over an adapter that nudge wrote for this model, rank and alpha, ready for the next
  // answer, and begins the optimiser's moments anew; what lessons repeat stays. Errors as
  // DecodeGguf and PackedAdapter::Pack: the adapter is the one before.
  Result<Nothing> Import(std::string_view gguf);

  // What has decided the adapter, as lines that ReplayLessons (lesson_replay.h) verifies.
  std::string ExportLessons() const { return log_.Export(digest()); }

  // All that lessons go on from: adapter, moments, what is repeated, and the log of the lessons.
  std::string Save();
  // Errors, after which nothing has changed: as Learner::Load, kWrongAdapter (of another model).
  // What a session saved that kept no log is taken too; the log says so.
  Result<Nothing> Restore(std::string_view bytes);

  // A new adapter: the base model exactly.
  void Reset();

  const std::string& base_sha256() const { return base_sha256_; }
  const LoraWeights& adapter() const { return adapter_; }
  std::string digest() const;  // of the adapter

 private:
  WebSession(std::shared_ptr<const FrozenWeights> weights, std::string base_sha256,
             const WebOptions& options, ParallelFor parallel);
  void SyncLearner();

  std::shared_ptr<const FrozenWeights> weights_;
  const std::string base_sha256_;
  const WebOptions options_;
  const LoraShape shape_;
  const ParallelFor parallel_;
  const LearnerOptions rule_;
  Trainer trainer_;
  AnchorPool anchors_;
  LoraWeights adapter_;
  AdamW optimizer_;                 // of Learn
  Learner learner_;                 // of Teach
  bool learner_is_behind_ = false;  // the adapter has changed by other ways than Teach
  uint64_t steps_ = 0;              // since the adapter was new
  std::string parent_digest_ = "base";
  LessonLog log_;
  std::unique_ptr<WebAnswers> answers_;
  std::shared_ptr<const PackedAdapter> packed_;  // null: the adapter has changed since
};

}  // namespace nudge
