// A server that answers chats over HTTP: question -> [ChatServer] -> answer, with a few tries.
//
// What it says of one question is that question's error (kModelFailed, kTooLarge). All else would
// be said of every question: it is not there, too busy, too slow, refuses the key, knows no such
// model, speaks another protocol. That is kUnavailable, which ends the run and no question; where
// it may pass, the call is tried again first, each try with a deadline of its own and behind a
// pause of 250 ms, doubled each time, 8 s at most.
//
// Any thread; a call holds its thread, and ends soon after `cancelled` says so. No error names the
// key, or quotes a question or what the server says of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "stages/model/remote/chat_protocol.h"
#include "stages/model/remote/http_post.h"

namespace nudge {

struct ChatServerOptions {
  std::string url;  // below which /chat/completions is
  std::string key;  // empty: none
  PostLimits limits;
  uint32_t retries_max = 8;
  size_t answer_bytes_max = 0;  // of an answer's text
};

struct ChatWatch {
  std::function<bool()> cancelled;
  // Gets the text as it comes. After a try that broke off it gets nothing more, so what it was told
  // may not be how the answer begins.
  std::function<void(std::string_view added)> on_text;
};

class ChatServer {
 public:
  // Throws StartError: the URL is none, TLS cannot be had.
  explicit ChatServer(ChatServerOptions options);

  Result<ChatReply> Ask(const ChatQuestion& question, const ChatWatch& watch) const;

 private:
  struct Try;

  Try AskOnce(ChatQuestion question, const ChatWatch& watch, bool& has_told) const;
  Try Judge(const PostReply& reply) const;
  Error Unavailable(const Try& last, uint32_t tries) const;

  const ChatServerOptions options_;
  const PostClient client_;
};

}  // namespace nudge
