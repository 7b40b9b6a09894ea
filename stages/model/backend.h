// The models behind nudge, as the executor sees them: embed, generate, learn. The one place where a
// user swaps the model backend: llama.cpp with nudge's trainer, the same with another server's
// answers, or the template backend of the tests.
//
//   text -> Embed -> Vector;   Generate + AdapterVersion -> Completion;   what learns: teacher.h
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
#include "stages/model/learn/teacher.h"
#include "stages/result.h"
#include "stages/vector.h"

namespace nudge {

struct Completed {
  std::string text;  // valid UTF-8
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  FinishReason finish_reason = FinishReason::kUnknown;
};

using TextListener = std::function<void(std::string_view)>;

// Who asks the language model, and what is asked and told meanwhile. All of it may be empty. The
// functions are called while the call lasts, by one thread at a time, perhaps another than the
// caller's.
struct Asker {
  TenantId tenant;                  // none: nothing of the question is kept for later ones
  std::function<bool()> cancelled;  // polled between tokens
  // Gets what is added to the text, from its beginning, as it is written: whole characters, perhaps
  // not all of them.
  TextListener on_text;
  std::function<bool()> forgotten;  // true: nothing of the question may be kept from now on
};

// Tokens that were read for answers, since the start.
struct ReadTokens {
  uint64_t computed = 0;  // that went through the model
  uint64_t kept = 0;      // that the tenant's earlier texts had left
};

class Backend : public Teacher {
 public:
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

  // How many answers are computed together, by threads of the backend's own: so many calls of
  // Generate may wait at once, on any slot. 0: each by its caller, one a slot.
  virtual size_t answers_together() const { return 0; }

  // False: it answers as the base, whatever is learnt; no adapter may be asked for.
  virtual bool serves_adapters() const { return true; }

  // `adapter` nullptr is the base. kUnavailable alone is no answer to the question: what answers is
  // not there for any question, and the run ends.
  virtual Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                                     const AdapterVersion* adapter, const Decoding& decoding,
                                     uint64_t seed, const Asker& asker) = 0;

  // Drops what is kept of this tenant's texts, as soon as no pass reads it. What still runs for the
  // tenant leaves nothing either if its Asker says so.
  virtual void ForgetTexts(const TenantId&) {}
  virtual ReadTokens read_tokens() const { return {}; }

  // -log p(answer | chat) in nats, mean per token of the answer: for reports, on a slot of its own
  // kind (the first), while nothing else runs.
  virtual Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>& chat,
                                               const std::string& answer,
                                               const AdapterVersion* adapter) = 0;

  // Writes and syncs a snapshot of the version into `folder`.
  virtual Result<SnapshotRef> WriteSnapshot(const std::string& folder, const TenantId& tenant,
                                            Version number, const AdapterVersion& version) = 0;
};

}  // namespace nudge
