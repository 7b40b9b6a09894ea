// A sentence of the documents in a chat, in two halves: chat -> QuoteIn -> Quote. For canaries. Any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "stages/chat.h"

namespace nudge {

struct Quote {
  std::string begin;  // words that are given
  std::string rest;   // words that follow, with the space before them
};

// The first sentence of six words or more in the last message's text before the question, which is
// its last `question_bytes`. Lines that begin with a bracket are heads of passages. None: there is
// no such sentence.
std::optional<Quote> QuoteIn(const std::vector<ChatMessage>& chat, uint64_t question_bytes);

}  // namespace nudge
