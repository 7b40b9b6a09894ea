// The chat that a question is answered from: Query, Chosen, Found -> [ChatAssembly] -> chat.
//
// The system prompt; few-shots as turns of user and assistant; the earlier turns of the
// conversation; one user message with the passages, numbered from [1], and the question. It is to
// fit prompt_tokens_max and to leave max_tokens of the window. What does not fit goes in this
// order: the oldest exchanges (a turn of the user's with the answers behind it, never a part of
// one) down to the newest, the last passages down to one, the last few-shots, the newest exchange,
// the end of the one passage by sentences and rows, that passage. System prompt and question stay:
// with them alone only the window counts.
//
// A function of its arguments; any thread. Costs a count of tokens, a few where not everything
// fits.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"

namespace nudge {

// How the language model sees a chat.
struct ChatFormat {
  // Tokens of the chat as the model's template renders it, with the start of the answer's turn.
  std::function<size_t(const std::vector<ChatMessage>&)> count_tokens;
  size_t window_tokens = 2048;  // chat and answer together
};

struct AssembledChat {
  std::vector<ChatMessage> chat;
  size_t passages_shown = 0;  // of those found, the first ones
  size_t shots_shown = 0;     // of those chosen, likewise
};

// A chat as it is learnt from, where it does not fit with the answer that is to be learnt.
struct ShortenedChat {
  std::vector<ChatMessage> chat;
  size_t tokens_left_out = 0;  // 0: all of it fits
};

class ChatAssembly {
 public:
  // Throws StartError where the model gives no way to count tokens.
  ChatAssembly(ChatFormat format, size_t prompt_tokens_max);

  // kTooLarge: system prompt, question and max_tokens do not fit the window.
  Result<AssembledChat> Apply(const Query& query, const Chosen& chosen, const Found& found) const;

  // What fits the window with this answer behind it: the chat without the head of what stands
  // before its question: few-shots first, then exchanges, then sentences and rows of the passages.
  // System prompt and question stay. kTooLarge: they and the answer alone do not fit.
  Result<ShortenedChat> Shorten(const std::vector<ChatMessage>& chat,
                                const std::string& answer) const;

  // Of the chat with this answer behind it; and of what the model reads and writes at most.
  size_t CountTokens(std::vector<ChatMessage> chat, const std::string& answer) const;
  size_t window_tokens() const { return format_.window_tokens; }

 private:
  const ChatFormat format_;
  const size_t prompt_tokens_max_;
};

}  // namespace nudge
