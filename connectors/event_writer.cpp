// Events as JSON: what codec.h declares to write one.
#include <string>
#include <string_view>
#include <variant>

#include "connectors/codec.h"
#include "connectors/json_writer.h"
#include "connectors/rights_reader.h"

namespace nudge {
namespace {

// Commas between members of which any may be absent.
class Members {
 public:
  explicit Members(JsonWriter& json) : json_(json) {}

  // Writes `"name":` and hands the writer over for the value.
  JsonWriter& operator()(std::string_view name) {
    json_.Raw(first_ ? "\"" : ",\"").Raw(name).Raw("\":");
    first_ = false;
    return json_;
  }

 private:
  JsonWriter& json_;
  bool first_ = true;
};

struct DataWriter {
  JsonWriter& json;

  void operator()(const DocumentUpsert& document) const {
    json.Raw(R"("document_id":)").Text(document.document_id);
    json.Raw(R"(,"text":)").Text(document.text);
    if (!document.title.empty()) json.Raw(R"(,"title":)").Text(document.title);
    if (!document.metadata.empty()) {
      json.Raw(R"(,"metadata":)");
      WriteMetadata(document.metadata, json);
    }
    if (document.access) {
      json.Raw(R"(,"access":)");
      WriteGroups(*document.access, json);
    }
  }

  void operator()(const DocumentDelete& document) const {
    json.Raw(R"("document_id":)").Text(document.document_id);
  }

  void operator()(const Query& query) const {
    json.Raw(R"("text":)").Text(query.text);
    if (!query.messages.empty()) {
      json.Raw(R"(,"messages":[)");
      for (const ChatMessage& message : query.messages) {
        json.Raw(&message == &query.messages.front() ? "" : ",");
        json.Raw(R"({"role":)")
            .Text(message.role)
            .Raw(R"(,"content":)")
            .Text(message.text)
            .Raw("}");
      }
      json.Raw("]");
    }
    if (!query.conversation_id.empty()) {
      json.Raw(R"(,"conversation_id":)").Text(query.conversation_id);
    }
    if (!query.groups.empty()) {
      json.Raw(R"(,"groups":)");
      WriteGroups(query.groups, json);
    }
    if (query.filter) {
      json.Raw(R"(,"filter":)");
      WriteFilter(*query.filter, json);
    }
    const QueryOptions& options = query.options;
    if (!options.max_tokens && !options.temperature && !options.seed && !options.prompt_id) return;
    json.Raw(R"(,"options":{)");
    Members member(json);
    if (options.max_tokens) member("max_tokens").Integer(*options.max_tokens);
    if (options.temperature) member("temperature").Number(*options.temperature);
    if (options.seed) member("seed").Integer(*options.seed);
    if (options.prompt_id) member("prompt_id").Text(*options.prompt_id);
    json.Raw("}");
  }

  void operator()(const Feedback& feedback) const {
    Members member(json);
    if (!feedback.query_id.empty()) member("query_id").Text(feedback.query_id);
    if (!feedback.query_source.empty()) member("query_source").Text(feedback.query_source);
    if (feedback.inline_answer) {
      member("inline").Raw(R"({"query":)").Text(feedback.inline_answer->query);
      json.Raw(R"(,"completion":)").Text(feedback.inline_answer->completion).Raw("}");
    }
    if (feedback.rating) member("rating").Number(*feedback.rating);
    if (feedback.takes_back) member("rating").Raw("null");
    if (feedback.correction) member("correction").Text(*feedback.correction);
    if (!feedback.comment.empty()) member("comment").Text(feedback.comment);
    const Behaviour& seen = feedback.behaviour;
    const bool any = seen.clicked || seen.copied || seen.regenerated || seen.dwell_ms;
    if (!any && (feedback.rating || feedback.takes_back || feedback.correction)) return;
    member("signals").Raw(R"({"clicked":)").Bool(seen.clicked);
    json.Raw(R"(,"copied":)").Bool(seen.copied);
    json.Raw(R"(,"regenerated":)").Bool(seen.regenerated);
    if (seen.dwell_ms) json.Raw(R"(,"dwell_ms":)").Integer(*seen.dwell_ms);
    json.Raw("}");
  }

  void operator()(const ExampleGiven& example) const {
    json.Raw(R"("query":)").Text(example.query).Raw(R"(,"answer":)").Text(example.answer);
  }

  void operator()(const PromptUpsert& prompt) const {
    json.Raw(R"("prompt_id":)").Text(prompt.prompt_id);
    json.Raw(R"(,"system":)").Text(prompt.system);
    if (!prompt.decoding) return;
    json.Raw(R"(,"decoding":{)");
    WriteDecoding(*prompt.decoding, json);
    json.Raw("}");
  }

  void operator()(const PromptDelete& prompt) const {
    json.Raw(R"("prompt_id":)").Text(prompt.prompt_id);
  }

  void operator()(const AdapterCommand& command) const {
    static constexpr std::string_view kActions[] = {"rollback", "reset", "freeze", "unfreeze",
                                                    "import"};
    json.Raw(R"("action":)").Text(kActions[static_cast<size_t>(command.action)]);
    if (command.version) json.Raw(R"(,"version":)").Integer(*command.version);
    if (!command.uri.empty()) json.Raw(R"(,"uri":)").Text(command.uri);
    if (!command.sha256.empty()) json.Raw(R"(,"sha256":)").Text(command.sha256);
    if (!command.user.empty()) json.Raw(R"(,"user":)").Text(command.user);
  }

  void operator()(const Forget& forget) const {
    Members member(json);
    if (!forget.user.empty()) member("user").Text(forget.user);
    if (!forget.document_id.empty()) member("document_id").Text(forget.document_id);
    if (forget.documents) member("documents").Bool(true);
    if (!forget.event_id.empty()) member("event_id").Text(forget.event_id);
    if (!forget.event_source.empty()) member("event_source").Text(forget.event_source);
    if (!forget.conversation_id.empty()) member("conversation_id").Text(forget.conversation_id);
  }

  void operator()(const SourceSync& sync) const {
    Members member(json);
    if (!sync.source.empty()) member("source").Text(sync.source);
    WriteGroups(sync.document_ids, member("document_ids"));
  }
};

}  // namespace

void WriteDecoding(const Decoding& decoding, JsonWriter& json) {
  json.Raw(R"("temperature":)").Number(decoding.temperature);
  json.Raw(R"(,"top_p":)").Number(decoding.top_p);
  json.Raw(R"(,"top_k":)").Integer(decoding.top_k);
  json.Raw(R"(,"max_tokens":)").Integer(decoding.max_tokens);
}

std::string EncodeEvent(const Event& event) {
  std::string out;
  JsonWriter json(out);
  json.Raw(R"({"specversion":"1.0","id":)").Text(event.id);
  json.Raw(R"(,"source":)").Text(event.source);
  json.Raw(R"(,"type":)").Text(TypeName(event));
  if (!event.time.empty()) json.Raw(R"(,"time":)").Text(event.time);
  json.Raw(R"(,"tenant":)").Text(event.tenant);
  if (!event.user.empty()) json.Raw(R"(,"user":)").Text(event.user);
  json.Raw(R"(,"datacontenttype":"application/json","data":{)");
  std::visit(DataWriter{json}, event.data);
  json.Raw("}}");
  return out;
}

}  // namespace nudge
