#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"

namespace nudge {
namespace {

// The messages of the codec speak of the event; a client knows the body.
void InTermsOfBody(HttpRefusal& refusal) {
  constexpr std::string_view kData = "data.";
  constexpr std::string_view kQueryId = "query_id";
  if (refusal.message.starts_with(kData)) refusal.message.erase(0, kData.size());
  if (refusal.message.starts_with(kQueryId))
    refusal.message.replace(0, kQueryId.size(), "answer_id");
  const size_t colon = refusal.message.find(':');
  if (colon != std::string::npos) refusal.param = refusal.message.substr(0, colon);
}

}  // namespace

Handled PostFeedback(const HttpRequest& request, const Scene& scene) {
  const auto body = BodyOf(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&body)) return ToResponse(*refusal);
  EventDraft draft;
  std::string data;
  std::string answer_id;
  JsonReader json;
  const Place root{nullptr, "", std::get<JsonValue>(body)};
  json.Members(root, [&](const Place& at) {
    const bool is_null = at.value.type() == JsonType::kNull && at.key != "rating";
    if (is_null) return;
    if (at.key == "event_id") return json.Id(at, kNoLimit, draft.id);
    if (at.key == "user") return json.Id(at, kNoLimit, draft.user);
    if (at.key == "tenant") return json.Id(at, kNoLimit, draft.tenant);
    if (at.key == "answer_source") return CopyMember(json, at, "query_source", data);
    if (at.key == "answer_id") {
      json.Id(at, kNoLimit, answer_id);
      return CopyMember(json, at, "query_id", data);
    }
    if (at.key == "rating" || at.key == "correction" || at.key == "comment") {
      return CopyMember(json, at, at.key, data);
    }
    json.FailAt(at, "unknown",
                "known: answer_id, answer_source, rating, correction, comment, event_id, user, "
                "tenant");
  });
  if (json.ok() && answer_id.empty()) {
    json.Fail(Code::kInvalidEvent, "answer_id: missing", "name the answer by its event id");
  }
  if (!json.ok()) {
    HttpRefusal refusal = ToRefusal(json.TakeError());
    InTermsOfBody(refusal);
    return ToResponse(refusal);
  }
  if (draft.id.empty()) draft.id = GivenId(request);
  draft.members = R"("specversion":"1.0","type":"nudge.feedback","data":{)" + data + "}";
  auto item = Admit(std::move(draft), scene.caller, request, scene.limits);
  if (auto* refusal = std::get_if<HttpRefusal>(&item)) {
    InTermsOfBody(*refusal);
    return ToResponse(*refusal);
  }
  return PlanOfReceipt(request, std::get<HttpPlan::Item>(std::move(item)));
}

}  // namespace nudge
