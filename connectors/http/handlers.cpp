#include "connectors/http/handlers.h"

#include <algorithm>
#include <charconv>

#include "connectors/http/embedded.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

unsigned StatusOf(Code code) {
  switch (code) {
    case Code::kForbidden:
      return 403;
    case Code::kTooLarge:
      return 413;
    case Code::kUnknownQuery:
    case Code::kUnknownPrompt:
      return 404;
    case Code::kQueryTooOld:
      return 410;
    case Code::kChangedEvent:
    case Code::kTenantLimit:
      return 409;
    case Code::kModelFailed:
    case Code::kInternal:
      return 500;
    case Code::kBusy:
      return 429;
    case Code::kUnavailable:
      return 503;
    default:
      return 400;
  }
}

}  // namespace

std::variant<JsonValue, HttpRefusal> BodyOf(const HttpRequest& request, const Scene& scene) {
  const std::string media = request.MediaType();
  if (!media.empty() && media != "application/json" && !media.ends_with("+json")) {
    return HttpRefusal{415, "unsupported_media_type", "the body is " + Quoted(media),
                       "send application/json", ""};
  }
  const Result<JsonValue> root = ParseJson(request.body, scene.limits.json_depth);
  if (!root.ok()) return ToRefusal(root.error());
  return *root;
}

std::variant<uint64_t, HttpRefusal> NumberOf(const HttpRequest& request, std::string_view name,
                                             uint64_t least, uint64_t most, uint64_t otherwise) {
  const std::string_view text = request.Query(name);
  if (text.empty()) return otherwise;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= least &&
      number <= most) {
    return number;
  }
  return HttpRefusal{400, "invalid_parameter",
                     std::string(name) + ": " + Quoted(text) + " is no whole number in " +
                         std::to_string(least) + ".." + std::to_string(most),
                     "", std::string(name)};
}

bool RespondsAsync(const HttpRequest& request) {
  return request.Header("prefer").find("respond-async") != std::string_view::npos;
}

std::string PercentEncoded(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

HttpResponse Pending(const std::string& id) {
  HttpResponse response;
  response.status = 202;
  JsonWriter(response.body)
      .Raw(R"({"event_id":)")
      .Text(id)
      .Raw(
          R"(,"state":"stored","message":"the event is in the log; its outcome is not there yet"})");
  response.headers.emplace_back("Location", "/v1/outcomes/" + PercentEncoded(id));
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

HttpResponse WithoutOutcome(const HttpEnding& ending, const std::string& id) {
  if (ending.stored) return Pending(id);  // a server that stops tells so after `stored`, too
  if (ending.failure) {
    const Error& error = *ending.failure;
    HttpRefusal refusal = ToRefusal(error, StatusOf(error.code));
    if (refusal.status == 400 || refusal.status == 409) refusal.status = 503;  // not its fault
    HttpResponse response = ToResponse(refusal);
    if (refusal.status == 503 || refusal.status == 429)
      response.headers.emplace_back("Retry-After", "1");
    return response;
  }
  HttpResponse response =
      ToResponse({504, "not_known_stored",
                  ending.doubt ? ending.doubt->message
                               : "the log has not yet said whether the event is stored",
                  "send it again with the same id, " + id + ": it counts once", ""});
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::optional<HttpResponse> RefuseWithoutState(const Scene& scene) {
  const std::optional<Error> why = scene.door.WithoutState();
  if (!why) return std::nullopt;
  return ToResponse({501, "no_state_here", why->message, why->remedy, ""});
}

HttpRefusal OfDeadLetter(const DeadLetter& letter) {
  return ToRefusal(letter.error, StatusOf(letter.error.code));
}

HttpResponse OfReceipt(const HttpEnding& ending, const std::string& id) {
  if (!ending.outcome) return WithoutOutcome(ending, id);
  const Result<RecordedOutcome> read = DecodeOutcome(*ending.outcome);
  if (!read.ok()) return ToResponse(ToRefusal(read.error(), 500));
  HttpResponse response;
  if (const auto* letter = std::get_if<DeadLetter>(&read->outcome.what)) {
    response = ToResponse(OfDeadLetter(*letter));
  } else {
    const auto* applied = std::get_if<Applied>(&read->outcome.what);
    JsonWriter json(response.body);
    json.Raw(R"({"event_id":)").Text(id).Raw(R"(,"summary":)");
    json.Text(applied == nullptr ? "answered" : applied->summary).Raw("}");
  }
  response.headers.emplace_back("x-nudge-event-id", PercentEncoded(id));
  return response;
}

HttpPlan PlanOfReceipt(const HttpRequest& request, HttpPlan::Item event) {
  HttpPlan plan;
  plan.waits = !RespondsAsync(request);
  plan.events.push_back(std::move(event));
  plan.answer = [id = plan.events.front().id](const std::vector<HttpEnding>& endings) {
    return OfReceipt(endings.front(), id);
  };
  return plan;
}

Handled GetHealth(const HttpRequest&, const Scene&) {
  return HttpResponse{200, "text/plain; charset=utf-8", "alive\n", {}};
}

Handled GetOpenApi(const HttpRequest&, const Scene&) {
  return HttpResponse{200, "application/json", std::string(OpenApiText()), {}};
}

Handled GetCaller(const HttpRequest&, const Scene& scene) {
  const Caller& caller = scene.caller;
  HttpResponse response;
  JsonWriter json(response.body);
  json.Raw(R"({"tenant":)");
  if (caller.open) {
    json.Raw(R"(null,"user":null)");  // whatever a request says
  } else {
    json.Text(caller.tenant).Raw(R"(,"user":)").Text(caller.user);
  }
  json.Raw(R"(,"names_users":)").Bool(caller.open || caller.names_users).Raw(R"(,"roles":[)");
  bool first = true;
  for (const Role role : kRoles) {
    if (caller.May(role)) json.Raw(std::exchange(first, false) ? "" : ",").Text(Name(role));
  }
  json.Raw("]}");
  return response;
}

Handled GetModels(const HttpRequest&, const Scene& scene) {
  HttpResponse response;
  JsonWriter json(response.body);
  json.Raw(R"({"object":"list","data":[)");
  bool first = true;
  for (const std::string& model : scene.door.Models()) {
    json.Raw(std::exchange(first, false) ? R"({"id":)" : R"(,{"id":)").Text(model);
    json.Raw(R"(,"object":"model","created":0,"owned_by":"nudge"})");
  }
  json.Raw("]}");
  return response;
}

}  // namespace nudge
