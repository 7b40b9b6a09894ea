#include "connectors/codec.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include "connectors/json_faults.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "connectors/rights_reader.h"

namespace nudge {
namespace {

// CloudEvents 1.0, JSON format, section 3.1: a media type of the subtype json, or one that ends in
// +json, whatever its parameters.
bool IsJsonType(std::string_view content_type) {
  std::string media(content_type.substr(0, content_type.find(';')));
  media.erase(std::min(media.find_last_not_of(" \t") + 1, media.size()));  // npos + 1 is 0
  for (char& c : media) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  const size_t slash = media.find('/');
  if (slash == 0 || slash == media.npos) return false;
  const std::string_view subtype = std::string_view(media).substr(slash + 1);
  return subtype == "json" || (subtype.size() > 5 && subtype.ends_with("+json"));
}

constexpr std::string_view kRatings =
    "send \"up\" or 1 for a like, \"down\" or -1 for a dislike, or a number between; of thumbs 0 "
    "and 1 "
    "send 2 * thumb - 1, of one to five stars (stars - 3) / 2";

constexpr std::string_view kEventTypes =
    "nudge.document.upsert, nudge.document.delete, nudge.query, nudge.feedback, nudge.example, "
    "nudge.prompt.upsert, nudge.prompt.delete, nudge.adapter, nudge.forget, nudge.source.sync";

class EventReader {
 public:
  explicit EventReader(const EventLimits& limits) : limits_(limits) {}

  Result<Event> Read(JsonValue root) {
    Event event;
    std::string type;
    std::optional<JsonValue> data;
    ReadAttributes(root, event, type, data);
    if (json_.ok() && (!data || data->type() == JsonType::kNull)) {
      json_.Fail(Code::kInvalidEvent, "data: missing", "put what the event says into data");
    }
    if (json_.ok()) ReadData(type, *data, event);
    if (!json_.ok()) return json_.TakeError();
    return event;
  }

 private:
  static constexpr Need kRequired = Need::kRequired;
  static constexpr Need kOptional = Need::kNullable;

  Limit IdLimit() const { return {"limits.id_bytes", limits_.id_bytes}; }
  Limit QueryLimit() const { return {"limits.query_bytes", limits_.query_bytes}; }
  Limit AnswerLimit() const { return {"limits.answer_bytes", limits_.answer_bytes}; }

  // Something that is often sent in an event's place, by its name.
  bool FailKnown(JsonValue root) {
    const Place event{nullptr, "event", root};
    if (root.type() == JsonType::kString) {
      if (!LooksLikeJson(json_.View(event, kNoLimit))) return false;
      json_.FailAt(event, "a text that holds JSON",
                   "send the object itself, not serialised a second time");
    } else if (root.type() == JsonType::kArray) {
      size_t objects = 0;
      json_.Items(
          event, [&](const Place& at) { objects += at.value.type() == JsonType::kObject ? 1 : 0; });
      if (objects == 0) return false;
      json_.FailAt(event, "a batch of " + std::to_string(objects) + " events",
                   "send each event by itself, one a record or line: CloudEvents' structured mode");
    } else if (root.type() == JsonType::kObject && IsEnvelope(event)) {
      json_.FailAt(event, "it is wrapped in schema and payload, as Kafka Connect's converter does",
                   "set schemas.enable=false on the connector's JSON converter");
    } else {
      return false;
    }
    return true;
  }

  // Whether an object has a payload and nothing of an event or its data.
  bool IsEnvelope(const Place& place) {
    bool has_payload = false;
    bool has_others = false;
    json_.Members(place, [&](const Place& at) {
      has_payload = has_payload || at.key == "payload";
      has_others = has_others || (at.key != "payload" && at.key != "schema");
    });
    return has_payload && !has_others;
  }

  // CloudEvents' JSON format says that an attribute of null is one that is not set.
  void ReadAttributes(JsonValue root, Event& event, std::string& type,
                      std::optional<JsonValue>& data) {
    if (FailKnown(root)) return;
    if (root.type() != JsonType::kObject) {
      return json_.FailType({nullptr, "event", root}, "one JSON object",
                            "write each event as an object of its own, one a line");
    }
    std::string version;
    const auto id_into = [this](std::string& out) {
      return [this, &out](const Place& place) { json_.Id(place, IdLimit(), out); };
    };
    json_.Object({nullptr, "", root},
                 {{"specversion", kOptional, id_into(version)},
                  {"id", kOptional, id_into(event.id)},
                  {"source", kOptional, id_into(event.source)},
                  {"type", kOptional, id_into(type)},
                  {"time", kOptional, id_into(event.time)},
                  {"tenant", kOptional,
                   [&](const Place& place) {
                     json_.Id(place, {"limits.tenant_bytes", limits_.tenant_bytes}, event.tenant);
                   }},
                  {"user", kOptional, id_into(event.user)},
                  {"datacontenttype", kOptional,
                   [&](const Place& place) {
                     const std::string_view text = json_.View(place, IdLimit());
                     if (json_.ok() && !IsJsonType(text)) {
                       json_.FailAt(
                           place, Quoted(text) + " is not application/json",
                           "send data as a JSON object, and application/json or nothing here");
                     }
                   }},
                  {"data", kOptional, [&](const Place& place) { data = place.value; }},
                  {"data_base64", kOptional,
                   [&](const Place& place) {
                     json_.FailAt(place, "binary data", "put the JSON itself into data");
                   }}},
                 Unknown::kIgnored);
    if (!json_.ok()) return;
    CheckAttributes(event, version, type);
  }

  void CheckAttributes(const Event& event, const std::string& version, const std::string& type) {
    const auto missing = [this](std::string_view name, std::string remedy) {
      json_.Fail(Code::kInvalidEvent, std::string(name) + ": missing", std::move(remedy));
    };
    if (version.empty()) {
      return missing("specversion",
                     "send the whole event as one object: specversion \"1.0\", id, source, type, "
                     "tenant and data (CloudEvents' structured mode; in its binary mode the value "
                     "is the data alone)");
    }
    if (version != "1.0") {
      return json_.Fail(Code::kInvalidEvent, "specversion: " + Quoted(version) + " is not 1.0",
                        "set specversion to \"1.0\"");
    }
    if (event.id.empty()) return missing("id", "give each event of a source its own id");
    if (event.source.empty()) return missing("source", "name where the event comes from");
    if (type.empty()) return missing("type", "known types: " + std::string(kEventTypes));
    if (event.tenant.empty()) {
      return missing("tenant", "set the extension attribute tenant to whom the event belongs");
    }
  }

  void ReadData(std::string_view type, JsonValue data, Event& event) {
    const Place place{nullptr, "data", data};
    if (data.type() == JsonType::kString && LooksLikeJson(json_.View(place, kNoLimit))) {
      return json_.FailAt(place, "a text that holds JSON",
                          "send the object itself, not serialised a second time");
    }
    if (data.type() == JsonType::kObject && IsEnvelope(place)) {
      return json_.FailAt(place, "it is wrapped in schema and payload",
                          "set schemas.enable=false on the connector's JSON converter");
    }
    if (type == "nudge.query") return ReadQuery(data, event.data.emplace<Query>());
    if (type == "nudge.feedback") return ReadFeedback(data, event.data.emplace<Feedback>());
    if (type == "nudge.document.upsert") {
      return ReadDocument(data, event.data.emplace<DocumentUpsert>());
    }
    if (type == "nudge.document.delete") {
      return ReadName(data, "document_id", event.data.emplace<DocumentDelete>().document_id);
    }
    if (type == "nudge.example") return ReadExample(data, event.data.emplace<ExampleGiven>());
    if (type == "nudge.prompt.upsert") return ReadPrompt(data, event.data.emplace<PromptUpsert>());
    if (type == "nudge.prompt.delete") {
      return ReadName(data, "prompt_id", event.data.emplace<PromptDelete>().prompt_id);
    }
    if (type == "nudge.adapter") return ReadAdapter(data, event.data.emplace<AdapterCommand>());
    if (type == "nudge.forget") return ReadForget(data, event.data.emplace<Forget>());
    if (type == "nudge.source.sync") return ReadSync(data, event.data.emplace<SourceSync>());
    json_.Fail(Code::kUnknownType, "type: " + Quoted(type) + " is unknown",
               "known types: " + std::string(kEventTypes));
  }

  void Data(JsonValue data, std::initializer_list<Field> fields) {
    json_.Object({nullptr, "data", data}, fields);
  }

  void ReadName(JsonValue data, std::string_view name, std::string& out) {
    Data(data, {{name, kRequired, [&](const Place& at) { json_.Id(at, IdLimit(), out); }}});
  }

  void ReadDocument(JsonValue data, DocumentUpsert& document) {
    Data(data, {{"document_id", kRequired,
                 [&](const Place& at) { json_.Id(at, IdLimit(), document.document_id); }},
                {"text", kRequired,
                 [&](const Place& at) {
                   json_.FullText(at, {"limits.text_bytes", limits_.text_bytes}, document.text);
                 }},
                {"title", kOptional,
                 [&](const Place& at) {
                   json_.Text(at, {"limits.title_bytes", limits_.title_bytes}, document.title);
                 }},
                {"metadata", kOptional,
                 [&](const Place& at) { ReadMetadata(json_, at, limits_, document.metadata); }},
                {"access", kOptional, [&](const Place& at) {
                   ReadGroups(json_, at, limits_, document.access.emplace());
                 }}});
  }

  // Earlier turns, oldest first.
  void ReadMessages(const Place& place, std::vector<ChatMessage>& messages) {
    const Limit most{"limits.messages", limits_.messages};
    size_t count = 0;
    json_.Items(place, [&](const Place&) { ++count; });
    if (json_.ok() && count > most.most) return json_.FailSize(place, count, "messages", most);
    size_t bytes = 0;
    json_.Items(place, [&](const Place& at) {
      ChatMessage& message = messages.emplace_back();
      json_.Object(at, {{"role", kRequired,
                         [&](const Place& in) {
                           json_.Id(in, IdLimit(), message.role);
                           if (!json_.ok() || message.role == "user" || message.role == "assistant")
                             return;
                           json_.FailAt(in, Quoted(message.role) + " is no role of an earlier turn",
                                        message.role == "system"
                                            ? "put it in by nudge.prompt.upsert, and name it by "
                                              "options.prompt_id"
                                            : "roles are user and assistant");
                         }},
                        {"content", kRequired,
                         [&](const Place& in) { json_.FullText(in, kNoLimit, message.text); }}});
      bytes += message.text.size();
      const Limit size{"limits.messages_bytes", limits_.messages_bytes};
      if (json_.ok() && bytes > size.most) json_.FailSize(place, bytes, "bytes or more", size);
    });
  }

  void ReadQuery(JsonValue data, Query& query) {
    QueryOptions& options = query.options;
    Data(data, {{"text", kRequired,
                 [&](const Place& at) { json_.FullText(at, QueryLimit(), query.text); }},
                {"messages", kOptional, [&](const Place& at) { ReadMessages(at, query.messages); }},
                {"conversation_id", kOptional,
                 [&](const Place& at) { json_.Id(at, IdLimit(), query.conversation_id); }},
                {"groups", kOptional,
                 [&](const Place& at) { ReadGroups(json_, at, limits_, query.groups); }},
                {"filter", kOptional,
                 [&](const Place& at) { ReadFilter(json_, at, limits_, query.filter.emplace()); }},
                {"options", kOptional, [&](const Place& at) {
                   json_.Object(
                       at, {{"max_tokens", kOptional,
                             [&](const Place& in) {
                               json_.Integer<uint32_t>(in, 1, 4096, options.max_tokens);
                             }},
                            {"temperature", kOptional,
                             [&](const Place& in) { json_.Number(in, 0, 2, options.temperature); }},
                            {"seed", kOptional,
                             [&](const Place& in) {
                               json_.Integer<uint64_t>(in, 0, std::numeric_limits<uint64_t>::max(),
                                                       options.seed);
                             }},
                            {"prompt_id", kOptional, [&](const Place& in) {
                               json_.Id(in, IdLimit(), options.prompt_id.emplace());
                             }}});
                 }}});
  }

  void ReadFeedback(JsonValue data, Feedback& feedback) {
    bool has_signals = false;
    Data(data,
         {{"query_id", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), feedback.query_id); }},
          {"query_source", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), feedback.query_source); }},
          {"inline", kOptional,
           [&](const Place& at) { ReadInline(at, feedback.inline_answer.emplace()); }},
          {"rating", Need::kOptional, [&](const Place& at) { ReadRating(at, feedback); }},
          {"correction", kOptional,
           [&](const Place& at) {
             json_.FullText(at, AnswerLimit(), feedback.correction.emplace());
           }},
          {"comment", kOptional,
           [&](const Place& at) {
             json_.Text(at, {"limits.comment_bytes", limits_.comment_bytes}, feedback.comment);
           }},
          {"signals", kOptional, [&](const Place& at) {
             has_signals = true;
             ReadSignals(at, feedback.behaviour);
           }}});
    if (!json_.ok()) return;
    const auto refuse = [this](std::string_view message, std::string_view remedy) {
      json_.Fail(Code::kInvalidEvent, std::string(message), std::string(remedy));
    };
    if (feedback.query_id.empty() == !feedback.inline_answer) {
      return refuse("data: exactly one of query_id and inline is needed",
                    "name the query by query_id, or give {query, completion} as inline");
    }
    if (feedback.inline_answer && !feedback.query_source.empty()) {
      return refuse("data.query_source: an inline answer has no query to look up", "drop it");
    }
    if (feedback.takes_back && (feedback.correction || has_signals)) {
      return refuse("data.rating: null takes back all that was said of the answer, " +
                        std::string(feedback.correction ? "a correction" : "signals") +
                        " beside it would say something",
                    "send rating null alone; or leave rating out: what is said now replaces what "
                    "was said before");
    }
    if (!feedback.rating && !feedback.takes_back && !feedback.correction && !has_signals) {
      return refuse("data: none of rating, correction and signals is given", "give one of them");
    }
  }

  void ReadInline(const Place& place, Feedback::Inline& answer) {
    json_.Object(place, {{"query", kRequired,
                          [&](const Place& at) { json_.FullText(at, QueryLimit(), answer.query); }},
                         {"completion", kRequired, [&](const Place& at) {
                            json_.FullText(at, AnswerLimit(), answer.completion);
                          }}});
  }

  void ReadRating(const Place& place, Feedback& feedback) {
    std::optional<double>& rating = feedback.rating;
    const auto refuse = [&](std::string_view what) {
      json_.FailAt(place, what, std::string(kRatings));
    };
    switch (place.value.type()) {
      case JsonType::kInteger:
      case JsonType::kReal:
        return json_.Number(place, -1, 1, rating, std::string(kRatings));
      case JsonType::kString:
        break;
      case JsonType::kBool:
        return refuse("a boolean is no rating");
      case JsonType::kNull:
        feedback.takes_back = true;
        return;
      default:
        return json_.FailType(place, "a number", std::string(kRatings));
    }
    const std::string_view word = json_.View(place, kNoLimit);
    if (word == "up") {
      rating = 1;
    } else if (word == "down") {
      rating = -1;
    } else {
      refuse("\"" + Quoted(word) + "\" is neither \"up\" nor \"down\"");
    }
  }

  void ReadSignals(const Place& place, Behaviour& behaviour) {
    constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
    bool any = false;
    const auto flag_into = [&](bool& out) {
      return [this, &any, &out](const Place& at) {
        any = true;
        json_.Bool(at, out);
      };
    };
    json_.Object(place, {{"clicked", kOptional, flag_into(behaviour.clicked)},
                         {"copied", kOptional, flag_into(behaviour.copied)},
                         {"regenerated", kOptional, flag_into(behaviour.regenerated)},
                         {"dwell_ms", kOptional, [&](const Place& at) {
                            any = true;
                            json_.WholePart<uint32_t>(at, 0, kMost, behaviour.dwell_ms);
                          }}});
    if (json_.ok() && !any) json_.FailAt(place, "empty", "give at least one signal");
  }

  void ReadExample(JsonValue data, ExampleGiven& example) {
    Data(data, {{"query", kRequired,
                 [&](const Place& at) { json_.FullText(at, QueryLimit(), example.query); }},
                {"answer", kRequired,
                 [&](const Place& at) { json_.FullText(at, AnswerLimit(), example.answer); }}});
  }

  void ReadPrompt(JsonValue data, PromptUpsert& prompt) {
    Data(data, {{"prompt_id", kRequired,
                 [&](const Place& at) { json_.Id(at, IdLimit(), prompt.prompt_id); }},
                {"system", kRequired,
                 [&](const Place& at) {
                   json_.Text(at, {"limits.prompt_bytes", limits_.prompt_bytes}, prompt.system);
                 }},
                {"decoding", kOptional,
                 [&](const Place& at) { ReadDecoding(at, prompt.decoding.emplace()); }}});
  }

  void ReadDecoding(const Place& place, Decoding& decoding) {
    constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
    json_.Object(place,
                 {{"temperature", kOptional,
                   [&](const Place& at) { json_.Number(at, 0, 2, decoding.temperature); }},
                  {"top_p", kOptional,
                   [&](const Place& at) {
                     json_.Number(at, 0, 1, decoding.top_p);
                     if (json_.ok() && decoding.top_p <= 0)
                       json_.FailAt(at, "0 leaves no token to draw", "1 cuts none");
                   }},
                  {"top_k", kOptional,
                   [&](const Place& at) { json_.Integer<uint32_t>(at, 0, kMost, decoding.top_k); }},
                  {"max_tokens", kOptional, [&](const Place& at) {
                     json_.Integer<uint32_t>(at, 1, 4096, decoding.max_tokens);
                   }}});
  }

  void ReadAdapter(JsonValue data, AdapterCommand& command) {
    std::string action;
    Data(data,
         {{"action", kRequired, [&](const Place& at) { json_.Id(at, IdLimit(), action); }},
          {"version", kOptional,
           [&](const Place& at) {
             json_.Integer<uint32_t>(at, 0, std::numeric_limits<uint32_t>::max(), command.version);
           }},
          {"uri", kOptional,
           [&](const Place& at) {
             json_.Id(at, {"limits.uri_bytes", limits_.uri_bytes}, command.uri);
           }},
          {"user", kOptional, [&](const Place& at) { json_.Id(at, IdLimit(), command.user); }},
          {"sha256", kOptional, [&](const Place& at) {
             json_.Id(at, IdLimit(), command.sha256);
             if (json_.ok() && !IsSha256Hex(command.sha256)) {
               json_.FailAt(at, "expected 64 lower-case hex digits",
                            "give what sha256sum prints of the file");
             }
           }}});
    if (json_.ok()) CheckAdapter(action, command);
  }

  void CheckAdapter(const std::string& action, AdapterCommand& command) {
    const auto refuse = [this](std::string message, std::string remedy) {
      json_.Fail(Code::kInvalidEvent, std::move(message), std::move(remedy));
    };
    using Action = AdapterCommand::Action;
    if (action == "rollback") {
      command.action = Action::kRollback;
    } else if (action == "reset") {
      command.action = Action::kReset;
    } else if (action == "freeze") {
      command.action = Action::kFreeze;
    } else if (action == "unfreeze") {
      command.action = Action::kUnfreeze;
    } else if (action == "import") {
      command.action = Action::kImport;
    } else {
      return refuse("data.action: \"" + Quoted(action) + "\" is unknown",
                    "known actions: rollback, reset, freeze, unfreeze, import");
    }
    const bool is_freeze = command.action == Action::kFreeze || command.action == Action::kUnfreeze;
    if (!command.user.empty() && is_freeze) {
      return refuse("data.user: " + action + " takes no user",
                    "rollback, reset and import do; freezing is of the whole tenant");
    }
    if (command.version && command.action != Action::kRollback) {
      return refuse("data.version: " + action + " takes no version", "only rollback does");
    }
    if (command.action != Action::kImport) {
      if (!command.uri.empty())
        return refuse("data.uri: " + action + " takes no uri", "only import does");
      if (!command.sha256.empty())
        return refuse("data.sha256: " + action + " takes no sha256", "only import does");
    } else if (command.uri.empty()) {
      refuse("data.uri: missing", "name the adapter's file");
    } else if (command.sha256.empty()) {
      refuse("data.sha256: missing", "give the SHA-256 of the adapter's file");
    }
  }

  void ReadSync(JsonValue data, SourceSync& sync) {
    const Limit most{"limits.sync_documents", limits_.sync_documents};
    const auto id_into = [&](const Place& at) {
      std::string id;
      json_.Id(at, IdLimit(), id);
      if (json_.ok()) sync.document_ids.insert(std::move(id));
    };
    Data(data,
         {{"source", kOptional, [&](const Place& at) { json_.Id(at, IdLimit(), sync.source); }},
          {"document_ids", kRequired, [&](const Place& at) {
             size_t count = 0;
             json_.Items(at, [&](const Place&) { ++count; });
             if (json_.ok() && count > most.most) {
               return json_.FailSize(at, count, "documents", most);
             }
             json_.Items(at, id_into);
           }}});
  }

  void ReadForget(JsonValue data, Forget& forget) {
    Data(data,
         {{"user", kOptional, [&](const Place& at) { json_.Id(at, IdLimit(), forget.user); }},
          {"document_id", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), forget.document_id); }},
          {"documents", kOptional, [&](const Place& at) { json_.Bool(at, forget.documents); }},
          {"event_id", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), forget.event_id); }},
          {"event_source", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), forget.event_source); }},
          {"conversation_id", kOptional,
           [&](const Place& at) { json_.Id(at, IdLimit(), forget.conversation_id); }}});
    const auto refuse = [this](std::string_view message, std::string_view remedy) {
      if (json_.ok()) json_.Fail(Code::kInvalidEvent, std::string(message), std::string(remedy));
    };
    if (forget.documents && forget.user.empty()) {
      refuse("data.documents: it goes with a user",
             "leave it out, or name the user whose documents go");
    }
    if (!forget.event_source.empty() && forget.event_id.empty()) {
      refuse("data.event_source: it goes with an event_id",
             "leave it out, or name the event that is forgotten");
    }
    const int named = !forget.user.empty() + !forget.document_id.empty() +
                      !forget.event_id.empty() + !forget.conversation_id.empty();
    if (named != 1) {
      refuse("data: exactly one of user, document_id, event_id and conversation_id is needed",
             "send an event for each");
    }
  }

  const EventLimits& limits_;
  JsonReader json_;
};

}  // namespace

bool IsSha256Hex(std::string_view text) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), is_digit);
}

Result<Event> DecodeEvent(std::string_view bytes, const EventLimits& limits) {
  bytes = WithoutMarks(bytes);
  if (bytes.size() > limits.line_bytes) {
    return Error{Code::kTooLarge,
                 "event: " + std::to_string(bytes.size()) + " bytes are over the limit of " +
                     std::to_string(limits.line_bytes),
                 "shorten it, or raise limits.line_bytes"};
  }
  const Result<JsonValue> root = ParseJson(bytes, limits.json_depth);
  if (!root) return root.error();
  return EventReader(limits).Read(*root);
}

}  // namespace nudge
