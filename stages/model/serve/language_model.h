// A language model that answers: chat -> RenderTokens -> Generate -> Completion, with any GGUF that
// llama.cpp serves, and a LoRA adapter plugged in from memory.
//
// Bits repeat: one sequence per context, an empty KV cache at every call, flash attention off, our
// own sampler in double with counter-based random numbers. The same tokens, adapter and sampling
// give the same completion on any slot, in any order (on one machine and build; the number of
// threads a slot has may matter for f32 weights).
//
// Thread contract: a slot is used by one thread at a time, different slots by different threads at
// once, with different adapters. Everything that takes no slot may be called from any thread.
//
// What a user writes is never parsed as control tokens: a text that spells <|im_end|> stays text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/chat.h"
#include "stages/result.h"

namespace nudge {

class ChatTokens;

struct LanguageModelOptions {
  size_t slots = 1;               // contexts; each costs its KV cache (23 MB per 1024 tokens of
                                  // SmolLM2-135M) and ~10 MB of buffers
  uint32_t threads_per_slot = 1;  // 1..256
  uint32_t window_tokens = 2048;  // prompt and completion; cut to what the model was trained for,
                                  // which text_only does not know
  bool text_only = false;         // text and tokens alone: no weights, no slots, no adapters
};

struct Sampling {
  double temperature = 0;     // 0: greedy, ties to the lowest token id
  double top_p = 1;           // (0, 1]: the smallest set of likeliest tokens with this much weight
  uint32_t top_k = 0;         // 0: no cut
  uint32_t max_tokens = 128;  // of the completion
  uint64_t seed = 0;          // token i is drawn with UniformAt(seed, i)
};

struct Completion {
  std::string text;             // valid UTF-8; what does not decode is U+FFFD, an unfinished
                                // character at the end is cut; no special tokens
  std::vector<int32_t> tokens;  // as drawn, without the token that ended the turn
  uint32_t prompt_tokens = 0;
  bool stopped_by_limit = false;  // max_tokens or the window; else the model ended its turn
};

// A loaded adapter: immutable, belongs to the model that loaded it and keeps that model's weights
// alive. Dropped from any thread.
class Adapter {
 public:
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  size_t bytes() const;  // of its file

 private:
  friend class LanguageModel;
  struct State;
  explicit Adapter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

using AdapterPointer = std::shared_ptr<const Adapter>;  // null: the base model

class LanguageModel {
 public:
  // Throws StartError: file missing, truncated, foreign; an embedder or an encoder; no chat
  // template or one that llama.cpp does not know or that hides a message; out of memory.
  explicit LanguageModel(const std::string& path, const LanguageModelOptions& options = {});
  ~LanguageModel();
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  // ---- Text and tokens

  // `add_special`: what the model wants around a text (BOS). `parse_special`: control tokens
  // spelled in the text become tokens: for trusted text only. kModelFailed: the tokenizer refuses
  // the text.
  Result<std::vector<int32_t>> Tokenize(std::string_view text, bool add_special,
                                        bool parse_special) const;
  // Valid UTF-8 as Completion::text; control tokens leave nothing.
  std::string Detokenize(std::span<const int32_t> tokens) const;
  // Tokens of the text alone, at most; 0 for a text that the tokenizer refuses.
  size_t CountTokens(std::string_view text) const;

  // The chat in the model's own template. It is for people: never tokenize it, use RenderTokens.
  // kInternal: a role other than system, user, assistant.
  Result<std::string> Render(const std::vector<ChatMessage>& chat,
                             bool add_generation_prompt = true) const;
  // The same as tokens. The template is rendered with a placeholder for every message; only what
  // the template itself wrote between the placeholders is searched for control tokens. Ordinary
  // text between two control tokens, the template's and the user's, is tokenized in one piece, so a
  // harmless chat gets exactly the tokens of its rendered text. BOS is added if the model wants it.
  Result<std::vector<int32_t>> RenderTokens(const std::vector<ChatMessage>& chat,
                                            bool add_generation_prompt = true) const;
  // The token with which the model ends its turn: the last target of a training example.
  int32_t end_of_turn() const;
  // Whether an answer ends before this token. Requires a token of the vocabulary.
  bool EndsTurn(int32_t token) const;
  const ChatTokens& chat_tokens() const;  // all of these; as long as the model

  // ---- Adapters

  // A GGUF LoRA file in memory. kWrongAdapter: truncated, for another architecture or shape, ranks
  // that do not match, tensors other than pairs of A and B of 2-D weights (the token embedding
  // excluded), types other than f32, f16, bf16, numbers that are not finite.
  Result<AdapterPointer> LoadAdapter(std::span<const std::byte> gguf) const;

  // ---- Work on a slot. Each call starts from an empty KV cache.

  // `cancelled` (may be empty) is asked often, from the calling thread; cheap, and
  // never throws. So is `on_text`, which gets what was added to the answer, whole characters; what
  // is told is a part of the answer, from its beginning, and need not be all of it.
  // kModelFailed: empty prompt, no room for one token in the window, cancelled, logits that are not
  // finite (a broken adapter). The slot stays usable.
  Result<Completion> Generate(size_t slot, std::span<const int32_t> prompt,
                              const AdapterPointer& adapter, const Sampling& sampling,
                              const std::function<bool()>& cancelled = {},
                              const std::function<void(std::string_view)>& on_text = {});

  // Logits after every token, [tokens, vocabulary()]. Rows do not depend on how many tokens follow.
  // Against the passes of one token that Generate makes they differ by rounding, which 8-bit
  // activations widen to some tenths: a near tie may be drawn the other way.
  Result<std::vector<float>> Logits(size_t slot, std::span<const int32_t> tokens,
                                    const AdapterPointer& adapter);

  // -log p(completion | prompt) in nats, mean per completion token; both at least one token.
  Result<double> NegativeLogLikelihood(size_t slot, std::span<const int32_t> prompt,
                                       std::span<const int32_t> completion,
                                       const AdapterPointer& adapter);

  // ---- What it is

  size_t slots() const;
  size_t vocabulary() const;
  uint32_t window_tokens() const;
  const std::string& sha256() const;       // of the file, hex
  const std::string& description() const;  // for people: "Smollm2 135M, llama, 30 layers, q4_1"

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// llama.cpp's version and the CPU features that its kernels use here: with the model's SHA-256 this
// says whether two processes compute the same bits.
std::string LlamaFingerprint();

}  // namespace nudge
