// A conversation as a chat template takes it. Plain values, any thread.
#pragma once

#include <string>

namespace nudge {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string text;
  friend bool operator==(const ChatMessage&, const ChatMessage&) = default;
};

}  // namespace nudge
