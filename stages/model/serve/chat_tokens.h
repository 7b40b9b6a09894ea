// A chat as the tokens that a model was taught to read, and back: ChatMessage -> [ChatTokens] ->
// token ids, by the tokenizer and the chat template of its file.
//
// It needs no weights of the model, and is compiled for browsers too. Immutable: any thread.
//
// What a user writes is never parsed as control tokens: a text that spells <|im_end|> stays text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stages/chat.h"
#include "stages/result.h"

struct llama_vocab;

namespace nudge {

class ChatTokens {
 public:
  // The vocabulary outlives it. kUnsupportedModel: a template that llama.cpp does not know, or one
  // that leaves out a message.
  static Result<ChatTokens> Make(const llama_vocab* vocabulary, std::string chat_template);

  // As LanguageModel's calls of these names (language_model.h).
  Result<std::vector<int32_t>> Tokenize(std::string_view text, bool add_special,
                                        bool parse_special) const;
  Result<std::string> Render(const std::vector<ChatMessage>& chat,
                             bool add_generation_prompt = true) const;
  Result<std::vector<int32_t>> RenderTokens(const std::vector<ChatMessage>& chat,
                                            bool add_generation_prompt = true) const;
  int32_t end_of_turn() const { return end_of_turn_; }
  bool EndsTurn(int32_t token) const;

  // The bytes that the tokens spell, without control tokens: not always UTF-8.
  std::string Spelling(std::span<const int32_t> tokens) const;

 private:
  struct Segment;
  struct Piece;

  ChatTokens(const llama_vocab* vocabulary, std::string chat_template);
  void FindControls();
  std::vector<int32_t> Tokens(std::string_view text, bool add_special, bool parse_special) const;
  void AppendPlain(const std::string& text, std::vector<int32_t>* tokens) const;
  Result<std::vector<Segment>> Segments(const std::vector<ChatMessage>& chat,
                                        bool add_generation_prompt) const;
  std::vector<Piece> Pieces(const std::vector<Segment>& segments) const;

  const llama_vocab* vocabulary_;
  std::vector<std::pair<std::string, int32_t>> controls_;  // longest text first
  std::string chat_template_;
  int32_t end_of_turn_;
};

}  // namespace nudge
