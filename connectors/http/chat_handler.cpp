#include <algorithm>

#include "connectors/erased_outcomes.h"
#include "connectors/http/chat_request.h"
#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"

namespace nudge {
namespace {

// What an answer says of its request.
struct Asked {
  std::string id;
  std::string tenant;
  std::string model;
  int64_t unix_seconds = 0;
  bool stream_usage = false;
  std::optional<std::string> before;  // the outcome under this id when it was asked again
};

// `stop` and `length` as OpenAI has them: a full window is a length.
std::string_view FinishOf(FinishReason reason) {
  return reason == FinishReason::kLength || reason == FinishReason::kWindow ? "length" : "stop";
}

void WriteHead(const Asked& asked, std::string_view object, JsonWriter& json) {
  json.Raw(R"({"id":)").Text(asked.id).Raw(R"(,"object":")").Raw(object);
  json.Raw(R"(","created":)").Integer(asked.unix_seconds);
  json.Raw(R"(,"model":)").Text(asked.model);
}

void WriteUsage(const Response& answer, JsonWriter& json) {
  json.Raw(R"("usage":{"prompt_tokens":)").Integer(answer.prompt_tokens);
  json.Raw(R"(,"completion_tokens":)").Integer(answer.completion_tokens);
  json.Raw(R"(,"total_tokens":)")
      .Integer(uint64_t{answer.prompt_tokens} + answer.completion_tokens)
      .Raw("}");
}

// Our extension. `differs`: what was streamed is not what was committed, which then stands here.
void WriteExtension(const Asked& asked, const RecordedOutcome& outcome, bool differs,
                    JsonWriter& json) {
  const auto& answer = std::get<Response>(outcome.outcome.what);
  json.Raw(R"("nudge":{"event_id":)").Text(asked.id);
  json.Raw(R"(,"event_source":)").Text(outcome.outcome.source);
  json.Raw(R"(,"offset":")").Integer(outcome.offset);
  json.Raw(R"(","chain":)").Text(outcome.chain).Raw(R"(,"citations":[)");
  for (size_t i = 0; i < answer.citations.size(); ++i) {
    const Citation& citation = answer.citations[i];
    json.Raw(i == 0 ? R"({"document_id":)" : R"(,{"document_id":)").Text(citation.document_id);
    json.Raw(R"(,"version":)").Integer(citation.version);
    json.Raw(R"(,"score":)").Number(citation.score).Raw("}");
  }
  json.Raw(R"(],"adapter":{"version":)").Integer(answer.adapter_version);
  json.Raw(R"(,"digest":)").Text(answer.adapter_digest);
  json.Raw(R"(},"prompt":{"prompt_id":)").Text(answer.prompt_id);
  json.Raw(R"(,"version":)").Integer(answer.prompt_version);
  json.Raw(R"(},"cache_hit":)").Bool(answer.cache_hit);
  if (differs) json.Raw(R"(,"streamed_differs":true,"text":)").Text(answer.text);
  json.Raw("}");
}

// The outcome of the question: an answer, or why there is none. A question that was sent again gets
// a receipt from the log, and here the answer that its first sending got.
std::variant<RecordedOutcome, HttpResponse> Settle(const Asked& asked, const HttpEnding& ending,
                                                   const Door& door) {
  if (!ending.outcome) return WithoutOutcome(ending, asked.id);
  const auto kept = door.Outcome(asked.tenant, asked.id);
  for (const auto& line : {ending.outcome, asked.before, kept}) {
    if (!line || DecodeErased(*line)) continue;
    Result<RecordedOutcome> read = DecodeOutcome(*line);
    if (!read.ok()) return ToResponse(ToRefusal(read.error(), 500));
    if (read->outcome.source != kHttpSource) continue;  // the same id of another source
    if (std::holds_alternative<Response>(read->outcome.what)) return *std::move(read);
    if (const auto* letter = std::get_if<DeadLetter>(&read->outcome.what)) {
      return ToResponse(OfDeadLetter(*letter));
    }
  }
  return ToResponse({409, "duplicate", "this event id was asked before, and no answer is on record",
                     "ask again under a new id", ""});
}

HttpResponse Completion(const Asked& asked, const HttpEnding& ending, const Door& door) {
  const auto settled = Settle(asked, ending, door);
  HttpResponse response;
  if (const auto* refused = std::get_if<HttpResponse>(&settled)) {
    response = *refused;
  } else {
    const auto& outcome = std::get<RecordedOutcome>(settled);
    const auto& answer = std::get<Response>(outcome.outcome.what);
    JsonWriter json(response.body);
    WriteHead(asked, "chat.completion", json);
    json.Raw(R"(,"choices":[{"index":0,"message":{"role":"assistant","content":)");
    json.Text(answer.text).Raw(R"(,"refusal":null},"logprobs":null,"finish_reason":")");
    json.Raw(FinishOf(answer.finish_reason)).Raw(R"("}],)");
    WriteUsage(answer, json);
    json.Raw(",");
    WriteExtension(asked, outcome, false, json);
    json.Raw("}");
  }
  response.headers.emplace_back("x-nudge-event-id", PercentEncoded(asked.id));
  return response;
}

// Server-sent events: provisional tokens as they come, the rest once the outcome is committed.
class ChatStream final : public Streamed {
 public:
  ChatStream(Asked asked, const Door& door) : asked_(std::move(asked)), door_(door) {}

  HttpResponse Begin() override {
    HttpResponse head;
    head.type = "text/event-stream; charset=utf-8";
    head.headers = {{"Cache-Control", "no-store"}, {"x-nudge-event-id", PercentEncoded(asked_.id)}};
    head.body = Delta(R"("role":"assistant","content":"")");
    return head;
  }

  std::string Token(std::string_view text) override {
    sent_ += text;
    return ContentDelta(text);
  }

  std::string End(const HttpEnding& ending) override {
    const auto settled = Settle(asked_, ending, door_);
    if (const auto* refused = std::get_if<HttpResponse>(&settled)) {
      if (refused->status != 202) return "data: " + refused->body + "\n\n";
      const std::string why = ending.failure
                                  ? ending.failure->message
                                  : "the outcome takes longer than http.answer_timeout_ms";
      return "data: " +
             ErrorJson({504, "no_outcome_yet", why,
                        "it will be at /v1/outcomes/" + PercentEncoded(asked_.id), ""}) +
             "\n\n";
    }
    const auto& outcome = std::get<RecordedOutcome>(settled);
    const auto& answer = std::get<Response>(outcome.outcome.what);
    std::string out;
    const bool differs = !answer.text.starts_with(sent_);
    if (!differs && answer.text.size() > sent_.size()) {
      out += ContentDelta(std::string_view(answer.text).substr(sent_.size()));
    }
    JsonWriter json(out);
    json.Raw("data: ");
    WriteHead(asked_, "chat.completion.chunk", json);
    json.Raw(R"(,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":")");
    json.Raw(FinishOf(answer.finish_reason)).Raw(R"("}],)");
    WriteExtension(asked_, outcome, differs, json);
    json.Raw("}\n\n");
    if (asked_.stream_usage) {
      json.Raw("data: ");
      WriteHead(asked_, "chat.completion.chunk", json);
      json.Raw(R"(,"choices":[],)");
      WriteUsage(answer, json);
      json.Raw("}\n\n");
    }
    return out + "data: [DONE]\n\n";
  }

 private:
  std::string ContentDelta(std::string_view text) const {
    std::string content = R"("content":)";
    JsonWriter(content).Text(text);
    return Delta(content);
  }

  std::string Delta(std::string_view members) const {
    std::string out = "data: ";
    JsonWriter json(out);
    WriteHead(asked_, "chat.completion.chunk", json);
    json.Raw(R"(,"choices":[{"index":0,"delta":{)").Raw(members);
    json.Raw(R"(},"logprobs":null,"finish_reason":null}]})").Raw("\n\n");
    return out;
  }

  const Asked asked_;
  const Door& door_;
  std::string sent_;
};

EventDraft DraftOfQuestion(const ChatRequest& chat, const HttpRequest& request) {
  EventDraft draft;
  draft.id = chat.event_id.empty() ? GivenId(request) : chat.event_id;
  draft.user = chat.user;
  draft.tenant = chat.tenant;
  JsonWriter json(draft.members);
  json.Raw(R"("specversion":"1.0","type":"nudge.query","data":{"text":)").Text(chat.question);
  for (size_t i = 0; i < chat.earlier.size(); ++i) {
    json.Raw(i == 0 ? R"(,"messages":[{"role":)" : R"(,{"role":)").Text(chat.earlier[i].role);
    json.Raw(R"(,"content":)").Text(chat.earlier[i].text).Raw("}");
  }
  if (!chat.earlier.empty()) json.Raw("]");
  if (!chat.rights.empty()) json.Raw(",").Raw(chat.rights);
  if (!chat.conversation_id.empty()) {
    json.Raw(R"(,"conversation_id":)").Text(chat.conversation_id);
  }
  std::string options;
  JsonWriter out(options);
  const auto name = [&](std::string_view key) -> JsonWriter& {
    return out.Raw(options.empty() ? "" : ",").Text(key).Raw(":");
  };
  if (chat.max_tokens) name("max_tokens").Integer(*chat.max_tokens);
  if (chat.temperature) name("temperature").Number(*chat.temperature);
  if (chat.seed) name("seed").Integer(*chat.seed);
  if (!chat.prompt_id.empty()) name("prompt_id").Text(chat.prompt_id);
  json.Raw(R"(,"options":{)").Raw(options).Raw("}}");
  return draft;
}

}  // namespace

Handled PostChatCompletions(const HttpRequest& request, const Scene& scene) {
  const auto body = BodyOf(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&body)) return ToResponse(*refusal);
  const auto read = ReadChat(std::get<JsonValue>(body), scene.options.messages_max);
  if (const auto* refusal = std::get_if<HttpRefusal>(&read)) return ToResponse(*refusal);
  const auto& chat = std::get<ChatRequest>(read);
  const std::vector<std::string> models = scene.door.Models();
  if (std::find(models.begin(), models.end(), chat.model) == models.end()) {
    return ToResponse({404, "model_not_found", "no model " + Quoted(chat.model) + " is served here",
                       "GET /v1/models has the names", "model"});
  }
  EventDraft draft = DraftOfQuestion(chat, request);
  const bool named = !draft.id.empty();
  auto admitted = Admit(std::move(draft), scene.caller, request, scene.limits);
  if (auto* refusal = std::get_if<HttpRefusal>(&admitted)) {
    if (refusal->message.starts_with("data.text") || refusal->message.starts_with("data.messages"))
      refusal->param = "messages";
    return ToResponse(*refusal);
  }
  auto& item = std::get<HttpPlan::Item>(admitted);
  Asked asked{.id = item.id,
              .tenant = item.tenant,
              .model = chat.model,
              .unix_seconds = scene.unix_seconds,
              .stream_usage = chat.stream_usage,
              .before = std::nullopt};
  if (named) asked.before = scene.door.Outcome(item.tenant, item.id);
  HttpPlan plan;
  plan.waits = chat.stream || !RespondsAsync(request);
  plan.events.push_back(std::move(item));
  plan.answer = [asked, &door = scene.door](const std::vector<HttpEnding>& endings) {
    return Completion(asked, endings.front(), door);
  };
  if (chat.stream) plan.stream = std::make_shared<ChatStream>(std::move(asked), scene.door);
  return plan;
}

}  // namespace nudge
