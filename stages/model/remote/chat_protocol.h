// The chat completions of OpenAI's protocol as text: question -> [ChatRequest] -> JSON, and the
// reply, whole or as a stream, -> [ReadChatReply, ChatStream] -> answer.
//
// What a reply holds beside the answer is not looked at. Values; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"
#include "stages/result.h"

namespace nudge {

struct ChatQuestion {
  std::string model;
  const std::vector<ChatMessage>& chat;
  Decoding decoding;
  uint64_t seed = 0;
  bool as_stream = false;
};

struct ChatReply {
  std::string text;                       // valid UTF-8
  std::optional<uint32_t> prompt_tokens;  // as the server counted them
  std::optional<uint32_t> completion_tokens;
  FinishReason finish_reason = FinishReason::kUnknown;
};

// temperature, top_p, max_tokens and seed always (the seed's low 31 bits: some servers take no
// more), top_k where it cuts.
std::string ChatRequest(const ChatQuestion& question);

// kUnavailable: it is no JSON, or not of this protocol; the message says which.
Result<ChatReply> ReadChatReply(std::string_view json);

// What a server calls its refusal, of letters, digits and `_-.` and at most 64 of them; empty: it
// gives no such name. Its sentences are left out: they may quote what must not get into outcomes.
std::string RefusalName(std::string_view json);

// A stream of server-sent events, of which each has a piece of the answer, to its end `[DONE]`.
class ChatStream {
 public:
  // `on_text` may be empty.
  explicit ChatStream(std::function<void(std::string_view added)> on_text);

  // False: that was the end, or nothing more is of use.
  bool Take(std::string_view added);

  // kUnavailable: it ended before its end, the server broke it off, or it is not of this protocol.
  Result<ChatReply> End() const;
  // Whether it is of this protocol as far as it came, so that another try may end better.
  bool breaks_off() const { return !is_done_ && (!error_ || breaks_off_); }

 private:
  void TakeLine(std::string_view line);

  const std::function<void(std::string_view added)> on_text_;
  std::string line_;  // as far as it came
  ChatReply reply_;
  bool is_done_ = false;
  bool breaks_off_ = false;  // by a word of the server's
  std::optional<Error> error_;
};

}  // namespace nudge
