// Text without llama.cpp's models: a GGUF's bytes -> [ModelText] -> chats as tokens, tokens as
// text.
//
// For browsers, by the sources of llama.cpp's vocabulary alone; a server has language_model.h. Both
// read chats by chat_tokens.h. Immutable; one thread at a time.
#pragma once

#include <cstddef>
#include <memory>

#include "stages/model/serve/chat_tokens.h"
#include "stages/result.h"

namespace nudge {

class ModelText {
 public:
  // Keeps nothing of the bytes. Errors: kUnreadableFile (no GGUF), kUnsupportedModel (no
  // vocabulary that llama.cpp reads, no chat template, or one that ChatTokens::Make refuses).
  static Result<std::unique_ptr<ModelText>> Load(const void* gguf, size_t bytes);
  ~ModelText();
  ModelText(const ModelText&) = delete;
  ModelText& operator=(const ModelText&) = delete;

  const ChatTokens& chat() const { return *chat_; }

 private:
  ModelText();

  std::unique_ptr<llama_vocab> vocabulary_;
  std::optional<ChatTokens> chat_;
};

}  // namespace nudge
