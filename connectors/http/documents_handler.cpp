#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"
#include "connectors/http/html_text.h"
#include "stages/hash.h"

namespace nudge {
namespace {

constexpr std::string_view kOpens =
    R"("specversion":"1.0","type":"nudge.document.upsert","data":{)";

// Its name, and a title that goes before the page's own, are in the query.
EventDraft DraftOf(const HttpRequest& request, const HtmlText& page, std::string_view more = {}) {
  EventDraft draft;
  draft.members = kOpens;
  JsonWriter json(draft.members);
  json.Raw(R"("document_id":)").Text(request.Query("document_id"));
  json.Raw(R"(,"text":)").Text(page.text);
  const std::string_view given = request.Query("title");
  const std::string_view title = given.empty() ? page.title : given;
  if (!title.empty()) json.Raw(R"(,"title":)").Text(title);
  json.Raw(more).Raw("}");
  return draft;
}

// The log holds the page's text, and what it was taken from by its digest.
std::variant<EventDraft, HttpRefusal> OfHtml(const HttpRequest& request) {
  const Result<HtmlText> page = TextOfHtml(request.body);
  if (!page.ok()) return ToRefusal(page.error());
  if (page->text.empty()) {
    return HttpRefusal{400, "no_text", "body: the page shows no text",
                       "send the page as a browser has it once its scripts are done", ""};
  }
  return DraftOf(
      request, *page,
      R"(,"metadata":{"media_type":"text/html","sha256":")" + Sha256Hex(request.body) + R"("})");
}

// The body is the text.
std::variant<EventDraft, HttpRefusal> OfText(const HttpRequest& request, bool is_html) {
  if (!IsUtf8(request.body)) {
    return HttpRefusal{
        400, "invalid_utf8",
        "body: not UTF-8 from byte " + std::to_string(FirstInvalidUtf8(request.body)),
        "send the text as UTF-8", ""};
  }
  return is_html ? OfHtml(request) : DraftOf(request, {"", request.body});
}

std::variant<EventDraft, HttpRefusal> OfJson(const HttpRequest& request, const Scene& scene) {
  const auto body = BodyOf(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&body)) return *refusal;
  EventDraft draft;
  std::string data;
  JsonReader json;
  json.Members({nullptr, "", std::get<JsonValue>(body)}, [&](const Place& at) {
    if (at.value.type() == JsonType::kNull) return;
    if (at.key == "event_id") return json.Id(at, kNoLimit, draft.id);
    if (at.key == "user") return json.Id(at, kNoLimit, draft.user);
    if (at.key == "tenant") return json.Id(at, kNoLimit, draft.tenant);
    CopyMember(json, at, at.key, data);  // the event's reader knows which there are
  });
  if (!json.ok()) return ToRefusal(json.TakeError());
  draft.members = std::string(kOpens) + data + "}";
  return draft;
}

std::variant<EventDraft, HttpRefusal> Draft(const HttpRequest& request, const Scene& scene) {
  const std::string media = request.MediaType();
  const bool is_html = media == "text/html" || media == "application/xhtml+xml";
  if (is_html || media == "text/plain" || media == "text/markdown") return OfText(request, is_html);
  if (media == "application/pdf" || media.starts_with("multipart/")) {
    return HttpRefusal{
        415, "unsupported_media_type", Quoted(media) + " is not read",
        "take the text out, and send it as text/plain, text/markdown, text/html or JSON", ""};
  }
  return OfJson(request, scene);
}

}  // namespace

Handled PostDocuments(const HttpRequest& request, const Scene& scene) {
  auto draft = Draft(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&draft)) return ToResponse(*refusal);
  auto& event = std::get<EventDraft>(draft);
  if (event.id.empty()) event.id = GivenId(request);
  auto item = Admit(std::move(event), scene.caller, request, scene.limits);
  if (auto* refusal = std::get_if<HttpRefusal>(&item)) {
    constexpr std::string_view kData = "data.";
    if (refusal->message.starts_with(kData)) refusal->message.erase(0, kData.size());
    return ToResponse(*refusal);
  }
  return PlanOfReceipt(request, std::get<HttpPlan::Item>(std::move(item)));
}

}  // namespace nudge
