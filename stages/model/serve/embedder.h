// Text to vectors, with any embedding model in a GGUF file: text -> [Embedder] -> Vector.
//
// One text is one forward pass on one thread, because a vector's last bits depend on what else is
// in the batch: the same text gives the same bytes, whatever was embedded before, on any slot.
// Thread contract: different slots from different threads at once; one slot by one thread at a
// time.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "stages/result.h"
#include "stages/vector.h"

namespace nudge {

struct EmbedderOptions {
  // What the model was trained to see before a text. Unset: as the file says (nudge.query_prefix,
  // nudge.passage_prefix), else nothing.
  std::optional<std::string> query_prefix;
  std::optional<std::string> passage_prefix;
};

class Embedder {
 public:
  // Loads the model and makes `slots` contexts (about 20 MB each for e5-small).
  // Throws StartError: file missing, truncated or foreign; not an embedder; out of memory.
  Embedder(const std::string& path, size_t slots, const EmbedderOptions& options = {});
  ~Embedder();
  Embedder(const Embedder&) = delete;
  Embedder& operator=(const Embedder&) = delete;

  // [dimension()], L2 norm 1. `text` is UTF-8 in NFC; what is beyond window_tokens() is not seen.
  // kModelFailed: the model cannot take this text; the slot stays usable.
  Result<Vector> Embed(std::string_view text, bool is_query, size_t slot);

  // Tokens of `text` without prefix and special tokens. Any thread.
  size_t CountTokens(std::string_view text) const;
  // Those that Embed sends through the model: with both, cut to the window. Any thread.
  size_t CountSeen(std::string_view text, bool is_query) const;

  size_t dimension() const;
  size_t slots() const;
  size_t window_tokens() const;  // of one text, prefix and special tokens included: at most 512

  // Hex SHA-256 over the file's SHA-256, pooling, prefixes and window: vectors of two embedders may
  // be compared only if their identities are equal.
  const std::string& identity() const;
  const std::string& description() const;  // for people: "bert 384, 12 layers, q4_0"

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nudge
