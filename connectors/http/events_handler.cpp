#include <algorithm>

#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"
#include "connectors/http/request_target.h"

namespace nudge {
namespace {

constexpr std::string_view kEvent = "application/cloudevents+json";
constexpr std::string_view kBatch = "application/cloudevents-batch+json";

// Attributes in headers, in percent-encoding as CloudEvents' HTTP binding has it, data in the body.
EventDraft BinaryDraft(const HttpRequest& request, JsonReader& json, JsonValue data) {
  EventDraft draft;
  for (const auto& [name, value] : request.headers) {
    if (!name.starts_with("ce-")) continue;
    const std::string attribute = name.substr(3);
    std::string text = PercentDecoded(value);
    if (attribute == "id") {
      draft.id = std::move(text);
    } else if (attribute == "source") {
      draft.source = std::move(text);
    } else if (attribute == "tenant") {
      draft.tenant = std::move(text);
    } else if (attribute == "user") {
      draft.user = std::move(text);
    } else if (attribute == "specversion" || attribute == "type" || attribute == "time") {
      JsonWriter out(draft.members);
      out.Raw(draft.members.empty() ? "" : ",").Text(attribute).Raw(":").Text(text);
    }
  }
  CopyMember(json, {nullptr, "data", data}, "data", draft.members);
  return draft;
}

std::variant<std::vector<EventDraft>, HttpRefusal> Drafts(const HttpRequest& request,
                                                          const Scene& scene, bool batch) {
  const auto body = BodyOf(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&body)) return *refusal;
  const JsonValue root = std::get<JsonValue>(body);
  std::vector<EventDraft> drafts;
  JsonReader json;
  if (batch) {
    json.Items({nullptr, "batch", root}, [&](const Place& at) {
      if (drafts.size() == scene.options.batch_events_max) {
        return json.FailSize({nullptr, "batch", root}, drafts.size() + 1, "events or more",
                             {"http.batch_events_max", scene.options.batch_events_max});
      }
      drafts.push_back(DraftOf(json, at));
    });
    if (json.ok() && drafts.empty()) {
      json.Fail(Code::kInvalidEvent, "batch: empty", "send at least one event");
    }
  } else if (request.headers.contains("ce-specversion")) {
    drafts.push_back(BinaryDraft(request, json, root));
  } else if (root.type() != JsonType::kObject) {
    json.FailType({nullptr, "event", root}, "one JSON object",
                  "send a batch of events as " + std::string(kBatch));
  } else {
    drafts.push_back(DraftOf(json, {nullptr, "", root}));
  }
  if (!json.ok()) return ToRefusal(json.TakeError());
  return drafts;
}

// The outcomes of a batch, or where they will be; one that was not stored makes it an error.
HttpResponse OfBatch(const std::vector<HttpEnding>& endings, const std::vector<std::string>& ids) {
  const auto all = [&](auto&& what) { return std::all_of(endings.begin(), endings.end(), what); };
  HttpResponse response;
  JsonWriter json(response.body);
  if (all([](const HttpEnding& ending) { return ending.outcome.has_value(); })) {
    response.type = kBatch;
    for (size_t i = 0; i < endings.size(); ++i) {
      json.Raw(i == 0 ? "[" : ",").Raw(*endings[i].outcome);
    }
    json.Raw("]");
    return response;
  }
  response.status = all([](const HttpEnding& ending) { return ending.stored; }) ? 202 : 503;
  json.Raw(R"({"events":[)");
  for (size_t i = 0; i < endings.size(); ++i) {
    json.Raw(i == 0 ? R"({"event_id":)" : R"(,{"event_id":)").Text(ids[i]);
    json.Raw(R"(,"state":)")
        .Text(endings[i].stored    ? "stored"
              : endings[i].failure ? "not stored"
                                   : "not known");
    const std::optional<Error>& why = endings[i].failure ? endings[i].failure : endings[i].doubt;
    if (why) json.Raw(R"(,"message":)").Text(why->message);
    json.Raw("}");
  }
  json.Raw("]");
  if (response.status == 503) {
    const std::string error = ErrorJson({503, "unavailable", "not all events are stored",
                                         "send those that are not again, with the same ids", ""});
    json.Raw(",").Raw(std::string_view(error).substr(1));
  } else {
    json.Raw("}");
  }
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

}  // namespace

Handled PostEvents(const HttpRequest& request, const Scene& scene) {
  const bool batch = request.MediaType() == kBatch;
  auto drafts = Drafts(request, scene, batch);
  if (const auto* refusal = std::get_if<HttpRefusal>(&drafts)) return ToResponse(*refusal);
  HttpPlan plan;
  plan.waits = !RespondsAsync(request);
  std::vector<std::string> ids;
  for (EventDraft& draft : std::get<std::vector<EventDraft>>(drafts)) {
    auto item = Admit(std::move(draft), scene.caller, request, scene.limits);
    if (auto* refusal = std::get_if<HttpRefusal>(&item)) {
      if (batch) refusal->message = "event " + std::to_string(ids.size()) + ": " + refusal->message;
      return ToResponse(*refusal);
    }
    plan.events.push_back(std::get<HttpPlan::Item>(std::move(item)));
    ids.push_back(plan.events.back().id);
  }
  if (batch) {
    plan.answer = [ids](const std::vector<HttpEnding>& endings) { return OfBatch(endings, ids); };
    return plan;
  }
  plan.answer = [id = ids.front()](const std::vector<HttpEnding>& endings) {
    const HttpEnding& ending = endings.front();
    if (!ending.outcome) return WithoutOutcome(ending, id);
    return HttpResponse{200, std::string(kEvent), *ending.outcome, {}};
  };
  return plan;
}

}  // namespace nudge
