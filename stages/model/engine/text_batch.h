// Texts that are read together: BatchedText, in the order of arrival -> [TextBatch] -> passes.
//
// A pass takes the next token of every text that is being drawn, and of texts that are still to be
// read at most prompt_tokens_max, in the order of arrival: so the next token of the others does not
// wait longer for a long prompt. A new text joins at the next pass.
//
// A text begins once there are pages for all that it has so far, none before one that came earlier.
// One that grows while there is no page takes those of beginnings that are kept, then those of the
// text that came last, which is read again when it has its turn. So the oldest text always goes on,
// and all come to their end. None of it shows in a bit (pass.h).
//
// Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "stages/model/engine/key_pages.h"
#include "stages/model/engine/packed_model.h"
#include "stages/model/engine/pass.h"
#include "stages/model/engine/prefix_cache.h"
#include "stages/model/trainer/parallel.h"
#include "stages/result.h"

namespace nudge {

// A text as it is read, and what becomes of its logits. Called by the thread of Step, but for Take.
class BatchText {
 public:
  virtual ~BatchText() = default;

  // What is there: one token at least. Take may add one.
  virtual std::span<const int32_t> tokens() const = 0;
  // Logits are wanted of the token at this place and of all behind it.
  virtual size_t wanted_from() const = 0;
  // Logits [n, vocabulary] of the next n wanted tokens. False: the text has ended, which it must
  // once nothing is left to be read. By any thread that ParallelFor has; does not throw.
  virtual Result<bool> Take(std::span<const float> logits) = 0;
  // Asked before every pass: true ends the text.
  virtual bool cancelled() = 0;
  // Asked before its pages are kept for later texts.
  virtual bool may_be_kept() = 0;
};

struct BatchedText {
  BatchText* text = nullptr;
  const PackedAdapter* adapter = nullptr;  // null: the base model
  PrefixOwner owner;                       // no tenant: it is neither kept nor begun from others
};

struct BatchLimits {
  size_t texts_max = 16;          // that are begun, at a time
  size_t prompt_tokens_max = 64;  // of one pass, beside one of each text that is being drawn
  size_t positions_max = 2048;    // of a text
  size_t keys_bytes_max = size_t{1} << 30;    // of all pages; one text of positions_max at least
  size_t prefix_bytes_max = size_t{1} << 28;  // of those that are kept for later texts
};

// Tokens of texts, since the beginning.
struct BatchTokens {
  uint64_t computed = 0;  // that went through the model
  uint64_t kept = 0;      // that earlier texts had left
};

class TextBatch {
 public:
  // Requires keys_bytes_max of KeysBytes(positions_max) or more.
  TextBatch(std::shared_ptr<const PackedModel> model, const BatchLimits& limits);
  TextBatch(const TextBatch&) = delete;
  TextBatch& operator=(const TextBatch&) = delete;

  // Pages for a text of so many tokens.
  static size_t KeysBytes(const LlamaShape& shape, size_t tokens);

  // The text and its adapter stay until Step says that it has ended. Requires that it never has
  // more than positions_max tokens.
  void Add(const BatchedText& text);
  bool empty() const { return entries_.empty(); }

  struct End {
    BatchText* text;
    std::optional<Error> error;  // kModelFailed, "cancelled"; what Take or the pass had to say
  };
  // One pass, and which texts ended with it. What fails one text fails no other.
  std::vector<End> Step(const ParallelFor& parallel);

  // Drops what is kept of a tenant's texts.
  void Forget(std::string_view tenant) { cache_.Forget(tenant); }

  const BatchTokens& read() const { return read_; }
  size_t pages_held() const { return pool_.held(); }  // by texts and for later ones

 private:
  struct Entry {
    BatchedText of;
    KeySequence sequence;
    bool begun = false;  // has pages for its tokens
    bool drawn = false;  // Take was called
    bool ended = false;
  };
  struct Part {
    Entry* entry;
    EngineRows rows;
    std::span<float> logits;
    Result<bool> more = true;
  };

  void EndCancelled(std::vector<End>& ends);
  void BeginTexts();
  bool Begin(Entry& entry);
  bool Grow(size_t at, size_t tokens);
  void PlanParts();
  void AddPart(Entry& entry, size_t tokens, WantedLogits wants);
  void Run(const ParallelFor& parallel);
  void Take(const ParallelFor& parallel);
  void Keep(const Entry& entry);

  const BatchLimits limits_;
  KeyPages pool_;
  PrefixCache cache_;
  EnginePass pass_;
  const size_t vocabulary_;
  std::vector<float> logits_;   // [texts_max + kScoredTokens, vocabulary]
  std::vector<Entry> entries_;  // in the order of arrival
  std::vector<Part> parts_;     // of the pass at hand
  BatchTokens read_;
};

}  // namespace nudge
