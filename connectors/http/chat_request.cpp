#include "connectors/http/chat_request.h"

#include <algorithm>
#include <set>

#include "connectors/http/event_draft.h"

namespace nudge {
namespace {

constexpr Limit kName{"256", 256};
constexpr uint32_t kTokensMax = 4096;

class ChatReader {
 public:
  explicit ChatReader(size_t messages_max) : messages_max_(messages_max) {}

  std::variant<ChatRequest, HttpRefusal> Read(JsonValue root) {
    if (root.type() != JsonType::kObject) {
      json_.FailType({nullptr, "body", root}, "one JSON object");
    } else {
      json_.Members({nullptr, "", root}, [&](const Place& at) { Member(at); });
    }
    if (json_.ok()) CheckTogether();
    if (json_.ok()) return std::move(chat_);
    HttpRefusal refusal = ToRefusal(json_.TakeError());
    const size_t colon = refusal.message.find(": ");
    if (colon != std::string::npos) refusal.param = refusal.message.substr(0, colon);
    return refusal;
  }

 private:
  void Member(const Place& at) {
    if (!seen_.insert(std::string(at.key)).second) {
      return json_.FailAt(at, "given twice", "give it once");
    }
    if (at.key == "model") return json_.Id(at, kName, chat_.model);
    if (at.key == "messages") return Messages(at);
    if (at.value.type() == JsonType::kNull || Option(at) || Bookkeeping(at.key)) return;
    Neutral(at);
  }

  // What an answer can be told.
  bool Option(const Place& at) {
    if (at.key == "stream") {
      json_.Bool(at, chat_.stream);
    } else if (at.key == "max_tokens" || at.key == "max_completion_tokens") {
      json_.Integer<uint32_t>(at, 1, kTokensMax, chat_.max_tokens);
    } else if (at.key == "temperature") {
      json_.Number(at, 0, 2, chat_.temperature);
    } else if (at.key == "seed") {
      json_.Integer<uint64_t>(at, 0, std::numeric_limits<uint64_t>::max(), chat_.seed);
    } else if (at.key == "user") {
      json_.Id(at, kName, chat_.user);
    } else if (at.key == "stream_options") {
      json_.Members(at, [&](const Place& in) {
        if (in.key == "include_usage") return json_.Bool(in, chat_.stream_usage);
        if (in.key != "include_obfuscation") json_.FailAt(in, "unknown", "leave it out");
      });
    } else if (at.key == "nudge") {
      Extension(at);
    } else {
      return false;
    }
    return true;
  }

  void Extension(const Place& place) {
    json_.Members(place, [&](const Place& at) {
      if (at.value.type() == JsonType::kNull) return;
      if (at.key == "prompt_id") return json_.Id(at, kName, chat_.prompt_id);
      if (at.key == "event_id") return json_.Id(at, kName, chat_.event_id);
      if (at.key == "tenant") return json_.Id(at, kName, chat_.tenant);
      if (at.key == "conversation_id") return json_.Id(at, kName, chat_.conversation_id);
      if (at.key == "groups" || at.key == "filter") {
        return CopyMember(json_, at, at.key, chat_.rights);
      }
      json_.FailAt(at, "unknown",
                   "known: prompt_id, event_id, tenant, conversation_id, groups, filter");
    });
  }

  // Names that the sender keeps for itself: they ask nothing of an answer.
  static bool Bookkeeping(std::string_view key) {
    constexpr std::string_view kNames[] = {"metadata", "prompt_cache_key", "safety_identifier",
                                           "parallel_tool_calls", "service_tier"};
    return std::find(std::begin(kNames), std::end(kNames), key) != std::end(kNames);
  }

  // What nudge cannot do, unless it is not asked for.
  void Neutral(const Place& at) {
    if (at.key == "n") return Only(at, 1, "nudge gives one answer");
    if (at.key == "top_p") {
      return Only(at, 1, "it belongs to the prompt: set it by nudge.prompt.upsert");
    }
    if (at.key == "frequency_penalty" || at.key == "presence_penalty") {
      return Only(at, 0, "nudge draws without penalties");
    }
    if (at.key == "top_logprobs") return Only(at, 0, "nudge gives no log probabilities");
    if (at.key == "logprobs" || at.key == "store") return OnlyFalse(at);
    if (at.key == "stop" || at.key == "tools" || at.key == "functions" || at.key == "logit_bias") {
      return OnlyEmpty(at);
    }
    if (at.key == "tool_choice" || at.key == "function_call") return OnlyWord(at, {"none", "auto"});
    if (at.key == "modalities") return OnlyText(at);
    if (at.key == "response_format") {
      return json_.Members(at, [&](const Place& in) { OnlyWord(in, {"text"}); });
    }
    if (at.key == "reasoning_effort") return OnlyWord(at, {"none"});
    if (at.key == "verbosity") return OnlyWord(at, {"medium"});
    json_.FailAt(at, "nudge does not know or do this", "leave it out");
  }

  void Only(const Place& at, double neutral, std::string_view why) {
    double value = neutral;
    json_.Number(at, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max(),
                 value);
    if (value != neutral) json_.FailAt(at, why, "leave it out");
  }
  void OnlyFalse(const Place& at) {
    bool value = false;
    json_.Bool(at, value);
    if (value) json_.FailAt(at, "nudge cannot do this", "leave it out");
  }
  void OnlyEmpty(const Place& at) {
    bool any = false;
    const auto found = [&](const Place&) { any = true; };
    if (at.value.type() == JsonType::kObject) {
      json_.Members(at, found);
    } else if (at.value.type() == JsonType::kArray) {
      json_.Items(at, found);
    } else {
      any = true;
    }
    if (any) json_.FailAt(at, "nudge cannot do this", "leave it out");
  }
  void OnlyWord(const Place& at, std::initializer_list<std::string_view> neutral) {
    const std::string_view word =
        at.value.type() == JsonType::kString ? json_.View(at, kNoLimit) : std::string_view();
    if (std::find(neutral.begin(), neutral.end(), word) != neutral.end()) return;
    json_.FailAt(at, "nudge cannot do this", "leave it out");
  }
  void OnlyText(const Place& place) {
    json_.Items(place, [&](const Place& at) { OnlyWord(at, {"text"}); });
  }

  // ---- Messages ----

  void Messages(const Place& place) {
    uint64_t count = 0;
    json_.Items(place, [&](const Place&) { ++count; });
    if (!json_.ok()) return;
    if (count > messages_max_) {
      return json_.FailSize(place, count, "messages", {"http.messages_max", messages_max_});
    }
    if (count == 0) return json_.FailAt(place, "empty", "send the question as a user message");
    uint64_t number = 0;
    json_.Items(place, [&](const Place& at) { Message(at, ++number == count); });
  }

  void Message(const Place& place, bool last) {
    std::string role;
    std::string text;
    json_.Members(place, [&](const Place& at) {
      if (at.key == "role") return json_.Id(at, kName, role);
      if (at.value.type() == JsonType::kNull) return;
      if (at.key == "content") return Content(at, text);
      if (at.key == "name") return;
      OnlyEmpty(at);  // tool calls, audio
    });
    if (!json_.ok()) return;
    if (role == "system" || role == "developer") {
      if (text.empty()) return;
      return json_.FailAt(place, "nudge takes no " + role + " message with a question",
                          "put it in by nudge.prompt.upsert, and name it as nudge.prompt_id");
    }
    if (role != "user" && role != "assistant") {
      return json_.FailAt(place, role.empty() ? "role: missing" : Quoted(role) + " is no role here",
                          "roles are user and assistant");
    }
    if (!last) {  // an empty turn, as of an assistant that only called tools, says nothing
      if (!text.empty()) chat_.earlier.push_back({std::move(role), std::move(text)});
      return;
    }
    if (role != "user") {
      return json_.FailAt(place, "the last message is not the user's",
                          "end with the question, as a user message");
    }
    if (text.empty()) return json_.FailAt(place, "content: empty", "ask something");
    chat_.question = std::move(text);
  }

  // A text, or parts that are texts.
  void Content(const Place& place, std::string& text) {
    if (place.value.type() != JsonType::kArray) return json_.Text(place, kNoLimit, text);
    json_.Items(place, [&](const Place& part) {
      std::string type;
      std::string piece;
      json_.Members(part, [&](const Place& at) {
        if (at.key == "type") return json_.Id(at, kName, type);
        if (at.key == "text") return json_.Text(at, kNoLimit, piece);
      });
      if (!json_.ok()) return;
      if (type != "text") {
        return json_.FailAt(part, "a part of type " + Quoted(type) + " is not read",
                            "nudge reads text: send parts of type text, or one string");
      }
      if (!text.empty()) text += '\n';
      text += piece;
    });
  }

  void CheckTogether() {
    const auto missing = [&](std::string_view name, std::string remedy) {
      json_.Fail(Code::kInvalidEvent, std::string(name) + ": missing", std::move(remedy));
    };
    if (!seen_.contains("model")) return missing("model", "GET /v1/models has the names");
    if (!seen_.contains("messages")) {
      return missing("messages", "send the question as a user message");
    }
  }

  const size_t messages_max_;
  JsonReader json_;
  ChatRequest chat_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace

std::variant<ChatRequest, HttpRefusal> ReadChat(JsonValue root, size_t messages_max) {
  return ChatReader(messages_max).Read(root);
}

}  // namespace nudge
