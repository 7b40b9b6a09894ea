// The models behind nudge, as the executor sees them: embed, generate, learn. The one place where a
// user swaps the model backend: llama.cpp with nudge's trainer, or the template backend of the
// tests.
//
//   text -> Embed -> Vector;   Generate + AdapterVersion -> Completion;   Study -> BackendLearner
//
// A slot is a context of the backend: calls on different slots may run at the same time, calls on
// one slot may not. Everything else is const and may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"
#include "stages/model/parallel.h"
#include "stages/result.h"
#include "stages/vector.h"

namespace nudge {

struct Completed {
  std::string text;  // valid UTF-8
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
};

// What a learner has seen, for manifests and people.
struct LearnCounts {
  uint64_t steps = 0;
  uint64_t examples = 0;
  uint64_t corrections = 0;
  uint64_t ups = 0;
  uint64_t downs = 0;
  uint64_t refused = 0;  // steps that failed or did not pass the gate
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
struct Study {
  std::vector<ChatMessage> chat;
  std::string shown;
  std::optional<std::string> correction;
  double reward = 0;  // -1..1
};

// What one lesson did; feeds the learning curves, never an outcome's bytes.
struct LessonReport {
  double nll_before = 0;  // nats per token of the target, scored before the step: prequential
  double loss = 0;
  double kl = 0;  // of the anchors: nats per token
  double gradient_norm = 0;
  uint32_t tokens = 0;
  bool accepted = false;
};

// The learner of one tenant. One caller at a time; gone before its backend is.
class BackendLearner {
 public:
  virtual ~BackendLearner() = default;

  // One step. On an error, and on a step refused by its gate (accepted = false), weights and
  // moments are as before.
  virtual Result<LessonReport> Step(const Study& study, const ParallelFor& parallel_for) = 0;

  // The weights as they are now, as a version to serve. The same bytes for any `parallel_for`.
  virtual Result<std::shared_ptr<const AdapterVersion>> Publish(
      const std::string& parent_digest, const ParallelFor& parallel_for) = 0;

  // Goes on from these weights (rollback, import) or, with nullptr, from the base. Moments start
  // anew.
  virtual Result<Nothing> Adopt(const AdapterVersion* version) = 0;

  // All of it: weights, moments, replay, counts.
  virtual std::string Save() const = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Model files, library versions, instruction path: bits repeat only where this is equal.
  virtual std::string Fingerprint() const = 0;
  virtual std::string base_sha256() const = 0;
  // For people: which model answers, and whether it trains.
  virtual std::string description() const = 0;

  // Its calls take microseconds and may come from any threads at once, whatever their slots.
  virtual bool instant() const { return false; }

  // 0: this backend has no embedder, vectors stay empty.
  virtual size_t dimension() const = 0;
  virtual std::string embedder_identity() const = 0;
  virtual Result<Vector> Embed(size_t slot, std::string_view text, bool as_query) = 0;

  virtual size_t CountTokens(const std::vector<ChatMessage>& chat) const = 0;
  virtual size_t window_tokens() const = 0;

  // `adapter` nullptr is the base. `cancelled` is polled between tokens.
  virtual Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                                     const AdapterVersion* adapter, const Decoding& decoding,
                                     uint64_t seed, const std::function<bool()>& cancelled) = 0;

  // -log p(answer | chat) in nats, mean per token of the answer: for reports, on a slot of its own
  // kind (the first), while nothing else runs.
  virtual Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>& chat,
                                               const std::string& answer,
                                               const AdapterVersion* adapter) = 0;

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

  // Writes and syncs a snapshot of the version into `folder`.
  virtual Result<SnapshotRef> WriteSnapshot(const std::string& folder, const TenantId& tenant,
                                            Version number, const AdapterVersion& version) = 0;
};

}  // namespace nudge
