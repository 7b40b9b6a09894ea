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

// What the log holds of what a text was taken from.
std::string TakenFrom(const HttpRequest& request, std::string_view media_type) {
  return R"(,"metadata":{"media_type":")" + std::string(media_type) + R"(","sha256":")" +
         Sha256Hex(request.body) + R"("})";
}

HttpRefusal NoText(const char* message, const char* remedy) {
  return {400, "no_text", message, remedy, ""};
}

std::variant<EventDraft, HttpRefusal> OfHtml(const HttpRequest& request) {
  const Result<HtmlText> page = TextOfHtml(request.body);
  if (!page.ok()) return ToRefusal(page.error());
  if (page->text.empty()) {
    return NoText("body: the page shows no text",
                  "send the page as a browser has it once its scripts are done");
  }
  return DraftOf(request, *page, TakenFrom(request, "text/html"));
}

std::variant<EventDraft, HttpRefusal> OfPdf(const HttpRequest& request, PdfText& pdf) {
  const Result<std::string> text = pdf.Of(request.body);
  if (text.ok() && text->empty()) {
    return NoText("body: the PDF has no text", "send text; pictures of pages are not read");
  }
  if (text.ok()) return DraftOf(request, {"", *text}, TakenFrom(request, "application/pdf"));
  HttpRefusal refusal = ToRefusal(text.error());
  refusal.message = "body: " + refusal.message;
  switch (text.error().code) {
    case Code::kBusy:
    case Code::kUnavailable:
      refusal.status = 503;
      break;
    case Code::kTooLarge:
      refusal.status = 413;
      refusal.remedy = "send a shorter PDF; http.pdf_timeout_ms and http.body_bytes_max are limits";
      break;
    default:
      refusal.code = "unreadable_pdf";
      refusal.remedy = "see that it is a PDF and whole; http.pdf_memory_bytes_max is a limit";
  }
  return refusal;
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

// What a document needs of its request once that is answered elsewhere.
struct Sent {
  HttpRequest request;
  Caller caller;
  EventLimits limits;
};

using Ended = std::variant<HttpResponse, HttpPlan>;

Ended EndOf(std::variant<EventDraft, HttpRefusal> draft, const HttpRequest& request,
            const Caller& caller, const EventLimits& limits) {
  const auto refused = [](const HttpRefusal& refusal) {
    HttpResponse response = ToResponse(refusal);
    if (refusal.status == 503) response.headers.emplace_back("Retry-After", "1");
    return response;
  };
  if (const auto* refusal = std::get_if<HttpRefusal>(&draft)) return refused(*refusal);
  auto& event = std::get<EventDraft>(draft);
  if (event.id.empty()) event.id = GivenId(request);
  auto item = Admit(std::move(event), caller, request, limits);
  if (auto* refusal = std::get_if<HttpRefusal>(&item)) {
    constexpr std::string_view kData = "data.";
    if (refusal->message.starts_with(kData)) refusal->message.erase(0, kData.size());
    return refused(*refusal);
  }
  return PlanOfReceipt(request, std::get<HttpPlan::Item>(std::move(item)));
}

Handled AtOnce(std::variant<EventDraft, HttpRefusal> draft, const HttpRequest& request,
               const Scene& scene) {
  return std::visit([](auto&& end) -> Handled { return std::forward<decltype(end)>(end); },
                    EndOf(std::move(draft), request, scene.caller, scene.limits));
}

// Who may not is told before anything is read.
template <class Read>
Handled ByErrand(const HttpRequest& request, const Scene& scene, Read read) {
  auto trial = EndOf(DraftOf(request, {"", "text"}), request, scene.caller, scene.limits);
  if (auto* refused = std::get_if<HttpResponse>(&trial)) return std::move(*refused);
  return HttpErrand{[read, sent = Sent{request, scene.caller, scene.limits}] {
    return std::visit([](auto&& end) -> HttpErrandEnd { return std::forward<decltype(end)>(end); },
                      EndOf(read(sent.request), sent.request, sent.caller, sent.limits));
  }};
}

HttpRefusal NotRead(const std::string& media, bool is_pdf) {
  return {415, "unsupported_media_type", Quoted(media) + " is not read",
          is_pdf ? "give http.pdf_converter, or take the text out and send that"
                 : "take the text out, and send it as text/plain, text/markdown, text/html or JSON",
          ""};
}

}  // namespace

Handled PostDocuments(const HttpRequest& request, const Scene& scene) {
  constexpr size_t kLongHtmlBytes = 64 << 10;  // a page of more takes milliseconds to read
  const std::string media = request.MediaType();
  const bool is_html = media == "text/html" || media == "application/xhtml+xml";
  if (is_html && request.body.size() > kLongHtmlBytes) {
    return ByErrand(request, scene, [](const HttpRequest& one) { return OfText(one, true); });
  }
  if (is_html || media == "text/plain" || media == "text/markdown") {
    return AtOnce(OfText(request, is_html), request, scene);
  }
  const bool is_pdf = media == "application/pdf";
  if (is_pdf && scene.pdf.is_on()) {
    return ByErrand(request, scene,
                    [&pdf = scene.pdf](const HttpRequest& one) { return OfPdf(one, pdf); });
  }
  if (is_pdf || media.starts_with("multipart/")) return ToResponse(NotRead(media, is_pdf));
  return AtOnce(OfJson(request, scene), request, scene);
}

}  // namespace nudge
