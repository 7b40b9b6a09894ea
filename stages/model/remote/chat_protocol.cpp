#include "stages/model/remote/chat_protocol.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace nudge {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kSeedBits = 0x7FFFFFFF;
constexpr size_t kNameBytes = 64;
constexpr char kRemedy[] = "see that model.openai.url is an OpenAI-compatible server's";

Error NotOfProtocol(std::string what) {
  return {Code::kUnavailable, std::move(what), kRemedy};
}

// The member, or null.
const Json& In(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNull;
}

std::optional<uint32_t> Count(const Json& usage, const char* key) {
  const Json& count = In(usage, key);
  if (!count.is_number_unsigned()) return std::nullopt;
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(std::min(count.get<uint64_t>(), kMost));
}

void ReadUsage(const Json& root, ChatReply& reply) {
  const Json& usage = In(root, "usage");
  if (!usage.is_object()) return;
  reply.prompt_tokens = Count(usage, "prompt_tokens");
  reply.completion_tokens = Count(usage, "completion_tokens");
}

void ReadFinish(const Json& choice, ChatReply& reply) {
  const Json& reason = In(choice, "finish_reason");
  if (reason == "stop") reply.finish_reason = FinishReason::kStop;
  if (reason == "length") reply.finish_reason = FinishReason::kLength;
}

// The first choice, or null.
const Json& FirstChoice(const Json& root) {
  static const Json kNull;
  const Json& choices = In(root, "choices");
  return choices.is_array() && !choices.empty() ? choices.front() : kNull;
}

}  // namespace

std::string ChatRequest(const ChatQuestion& question) {
  Json messages = Json::array();
  for (const ChatMessage& message : question.chat) {
    messages.push_back({{"role", message.role}, {"content", message.text}});
  }
  Json request = {{"model", question.model},
                  {"messages", std::move(messages)},
                  {"temperature", question.decoding.temperature},
                  {"top_p", question.decoding.top_p},
                  {"max_tokens", question.decoding.max_tokens},
                  {"seed", question.seed & kSeedBits}};
  if (question.decoding.top_k > 0) request["top_k"] = question.decoding.top_k;
  if (question.as_stream) {
    request["stream"] = true;
    request["stream_options"] = {{"include_usage", true}};
  }
  return request.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<ChatReply> ReadChatReply(std::string_view json) {
  const Json root = Json::parse(json, nullptr, false);
  if (root.is_discarded()) return NotOfProtocol("its reply is not JSON");
  const Json& choice = FirstChoice(root);
  const Json& message = In(choice, "message");
  const Json& content = In(message, "content");
  if (!message.is_object() || !(content.is_string() || content.is_null())) {
    return NotOfProtocol("its reply has no choices[0].message.content");
  }
  ChatReply reply;
  if (content.is_string()) reply.text = content.get<std::string>();
  ReadFinish(choice, reply);
  ReadUsage(root, reply);
  return reply;
}

std::string RefusalName(std::string_view json) {
  const Json root = Json::parse(json, nullptr, false);
  if (root.is_discarded()) return {};
  for (const char* key : {"code", "type"}) {
    const Json& name = In(In(root, "error"), key);
    if (!name.is_string()) continue;
    const std::string& text = name.get_ref<const std::string&>();
    const auto is_plain = [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-' || c == '.';
    };
    if (!text.empty() && text.size() <= kNameBytes &&
        std::all_of(text.begin(), text.end(), is_plain)) {
      return text;
    }
  }
  return {};
}

ChatStream::ChatStream(std::function<void(std::string_view)> on_text)
    : on_text_(std::move(on_text)) {}

bool ChatStream::Take(std::string_view added) {
  while (!added.empty() && !is_done_ && !error_) {
    const size_t end = added.find('\n');
    line_ += added.substr(0, end);
    if (end == added.npos) break;
    added.remove_prefix(end + 1);
    if (line_.ends_with('\r')) line_.pop_back();
    TakeLine(std::exchange(line_, {}));
  }
  return !is_done_ && !error_;
}

// Of other lines than data (comments, names of events) nothing is wanted.
void ChatStream::TakeLine(std::string_view line) {
  constexpr std::string_view kData = "data:";
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") {
    is_done_ = true;
    return;
  }
  const Json root = Json::parse(line, nullptr, false);
  if (root.is_discarded()) {
    error_ = NotOfProtocol("its stream has data that is not JSON");
    return;
  }
  if (root.is_object() && !In(root, "error").is_null()) {
    breaks_off_ = true;
    const std::string name = RefusalName(line);
    error_ = Error{Code::kUnavailable,
                   "it broke its stream off" + (name.empty() ? "" : " (" + name + ")"), ""};
    return;
  }
  ReadUsage(root, reply_);
  const Json& choice = FirstChoice(root);
  ReadFinish(choice, reply_);
  const Json& content = In(In(choice, "delta"), "content");
  if (!content.is_string()) return;
  const std::string& text = content.get_ref<const std::string&>();
  reply_.text += text;
  if (on_text_ && !text.empty()) on_text_(text);
}

Result<ChatReply> ChatStream::End() const {
  if (error_) return *error_;
  if (!is_done_) return Error{Code::kUnavailable, "its stream ended without [DONE]", ""};
  return reply_;
}

}  // namespace nudge
