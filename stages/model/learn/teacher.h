// The half of a backend that learns: TextExample -> [BackendLearner] -> AdapterVersion.
//
// One thing to learn from, floor by floor:
//   nudge.feedback -> LoggedExample (stages/jobs.h)      in the log: names its answer by Sequence
//                  -> TextExample   (here)               its answer is there, as text
//                  -> TokenExample  (learner.h)          in the model's tokens
//                  -> TrainSequence (trainer/trainer.h)  one row of tokens with an objective and a
//                  weight
//
// Apart from the rest, so that what keeps a tenant's adapters (tenant_adapters.h) knows nothing of
// answers and embeddings. Calls are const or make something new, and may come from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"
#include "stages/model/learn/left_out.h"
#include "stages/model/learn/verdict.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

// What a learner has seen, for manifests and people.
struct LearnCounts {
  uint64_t steps = 0;
  uint64_t examples = 0;
  uint64_t corrections = 0;
  uint64_t ups = 0;
  uint64_t downs = 0;
  uint64_t refused = 0;    // steps that a gate took back for good
  uint64_t set_aside = 0;  // lessons, ever: some were learnt later
};

// Weights at one version, immutable, ready to serve. `plugged` is the backend's own handle.
struct AdapterVersion {
  std::string digest;
  std::string parent_digest;
  std::string weights;  // the backend's encoding: what Load takes back
  LearnCounts counts;
  std::shared_ptr<const void> plugged;
};

// One thing to learn from, as text.
struct TextExample {
  std::vector<ChatMessage> chat;
  std::string shown;
  std::optional<std::string> correction;
  double reward = 0;            // -1..1
  std::string teacher;          // may be empty
  std::string source;           // of the event that taught it
  bool own_answer = false;      // what was shown is the model's own
  uint64_t question_bytes = 0;  // the question is the end of the chat
  uint64_t place = 0;           // names the lesson in reports
};

// What one lesson did; feeds the learning curves and what people are shown of a lesson, never an
// outcome's bytes.
struct LessonReport {
  double nll_before = 0;  // nats per token of the target, scored before the step: prequential
  double loss = 0;
  double kl = 0;  // of the anchors: nats per token
  double gradient_norm = 0;
  uint32_t tokens = 0;
  bool accepted = false;
  LessonVerdict verdict = LessonVerdict::kLearnt;
  std::optional<double> evidence;   // nats: see credit.h
  double canary_drop = 0;           // nats per token: see canaries.h
  std::optional<double> nll_after;  // nll_before's text behind the step, where that was taken
  // Of lessons that were set aside before, and came to their end with this one: their places.
  std::optional<uint64_t> learnt_after_all;
  std::vector<uint64_t> refused_for_good;
  LeftOut left_out;
};

// The learner of one tenant. One caller at a time; gone before its backend is.
class BackendLearner {
 public:
  virtual ~BackendLearner() = default;

  // One step. On an error, and on a step refused by its gate (accepted = false), weights and
  // moments are as before.
  virtual Result<LessonReport> Step(const TextExample& text, const ParallelFor& parallel_for) = 0;

  // The weights as they are now, as a version to serve. The same bytes for any `parallel_for`.
  virtual Result<std::shared_ptr<const AdapterVersion>> Publish(
      const std::string& parent_digest, const ParallelFor& parallel_for) = 0;

  // Goes on from these weights (rollback, import) or, with nullptr, from the base. Moments start
  // anew.
  virtual Result<Nothing> Adopt(const AdapterVersion* version) = 0;

  // All of it: weights, moments, replay, counts.
  virtual std::string Save() const = 0;
};

class Teacher {
 public:
  virtual ~Teacher() = default;

  // Whether lessons can be learnt at all; the error says why not (an architecture that is only
  // served).
  virtual Result<Nothing> CanLearn() const = 0;
  virtual std::unique_ptr<BackendLearner> NewLearner(const TenantId& tenant) = 0;
  virtual Result<std::unique_ptr<BackendLearner>> LoadLearner(const TenantId& tenant,
                                                              std::string_view saved) = 0;
  virtual Result<std::shared_ptr<const AdapterVersion>> LoadVersion(
      std::string_view weights, const std::string& digest, const std::string& parent_digest,
      const LearnCounts& counts) = 0;

  // An adapter file from elsewhere, checked against base, shape and digest.
  virtual Result<std::shared_ptr<const AdapterVersion>> ImportVersion(
      const std::string& path, const std::string& sha256) = 0;
};

}  // namespace nudge
