#include "stages/model/remote/chat_server.h"

#include <utility>

#include "stages/model/remote/tries.h"

namespace nudge {
namespace {

using End = PostReply::End;

PostTarget TargetOf(const std::string& url) {
  Result<PostTarget> target = ReadTarget(url);
  if (!target.ok()) {
    throw StartError("model.openai.url: " + target.error().message + ": " + target.error().remedy);
  }
  return *std::move(target);
}

bool IsOfTheQuestion(int status) {
  return status == 400 || status == 413 || status == 422;
}

std::string RemedyFor(int status) {
  if (status == 401 || status == 403) return "see model.openai.key_file";
  if (status == 404) {
    return "see that model.openai.url ends where /chat/completions follows (mostly in /v1), and "
           "that the server has the model that model.openai.model names";
  }
  return "see that model.openai.url is an OpenAI-compatible server's";
}

}  // namespace

// What came of one try: an answer, or an error that holds for the question, for all, or for now.
struct ChatServer::Try {
  enum class Kind { kAnswered, kRefused, kRefusesAll, kMayPass } kind;
  ChatReply reply;
  Error error;  // unless it is answered
};

ChatServer::ChatServer(ChatServerOptions options)
    : options_(std::move(options)),
      client_(TargetOf(options_.url), options_.key, options_.limits) {}

Result<ChatReply> ChatServer::Ask(const ChatQuestion& question, const ChatWatch& watch) const {
  bool has_told = false;
  for (uint32_t tries = 1;; ++tries) {
    Try last = AskOnce(question, watch, has_told);
    using Kind = Try::Kind;
    if (last.kind == Kind::kAnswered) return std::move(last.reply);
    if (last.kind == Kind::kRefused) return std::move(last.error);
    const bool is_last = last.kind == Kind::kRefusesAll || tries > options_.retries_max;
    if (is_last || !Pause(PauseBehind(tries), watch.cancelled)) return Unavailable(last, tries);
  }
}

ChatServer::Try ChatServer::AskOnce(ChatQuestion question, const ChatWatch& watch,
                                    bool& has_told) const {
  question.as_stream = watch.on_text && !has_told;
  ChatStream stream([&](std::string_view added) {
    has_told = true;
    watch.on_text(added);
  });
  PostWatch post{watch.cancelled, {}};
  if (question.as_stream) {
    post.on_body = [&](std::string_view added) { return stream.Take(added); };
  }
  const PostReply reply = client_.Post("/chat/completions", ChatRequest(question), post);
  using Kind = Try::Kind;
  if (reply.end != End::kWhole || reply.status != 200) return Judge(reply);
  Result<ChatReply> read = question.as_stream ? stream.End() : ReadChatReply(reply.body);
  if (!read.ok()) {
    const bool may_pass = question.as_stream && stream.breaks_off();
    return {may_pass ? Kind::kMayPass : Kind::kRefusesAll, {}, read.error()};
  }
  if (read->text.size() > options_.answer_bytes_max) {
    return {Kind::kRefused,
            {},
            {Code::kTooLarge,
             "the answer of another server has " + std::to_string(read->text.size()) +
                 " bytes, over an eighth of limits.outcome_bytes",
             "ask for less (max_tokens), or raise limits.outcome_bytes"}};
  }
  return {Kind::kAnswered, *std::move(read), {}};
}

// Of what is no whole reply with status 200.
ChatServer::Try ChatServer::Judge(const PostReply& reply) const {
  using Kind = Try::Kind;
  if (reply.end == End::kTooLarge) {
    return {Kind::kRefused,
            {},
            {Code::kTooLarge, "the answer of another server: " + reply.what,
             "ask for less (max_tokens), or raise model.openai.response_bytes_max"}};
  }
  if (reply.end != End::kWhole) {
    const std::string remedy =
        reply.end == End::kLate ? "raise model.openai.answer_timeout_ms where answers take longer"
                                : "see that the server runs and can be reached";
    return {Kind::kMayPass, {}, {Code::kUnavailable, reply.what, remedy}};
  }
  const std::string name = RefusalName(reply.body);
  const std::string what =
      "it answers HTTP " + std::to_string(reply.status) + (name.empty() ? "" : " (" + name + ")");
  if (IsOfTheQuestion(reply.status)) {
    return {Kind::kRefused,
            {},
            {Code::kModelFailed, "another server refuses the question: " + what,
             "see its log; its window may be smaller than model.window_tokens, or it may not know "
             "a part of the decoding (top_k)"}};
  }
  const Kind kind = MayPass(reply.status) ? Kind::kMayPass : Kind::kRefusesAll;
  const std::string remedy =
      kind == Kind::kMayPass ? "see that the server is well" : RemedyFor(reply.status);
  return {kind, {}, {Code::kUnavailable, what, remedy}};
}

Error ChatServer::Unavailable(const Try& last, uint32_t tries) const {
  return {Code::kUnavailable,
          "the server that answers (model.openai.url, " + options_.url + ") does not, after " +
              std::to_string(tries) + (tries == 1 ? " try: " : " tries: ") + last.error.message,
          last.error.remedy};
}

}  // namespace nudge
