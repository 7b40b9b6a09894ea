// What each path does: HttpRequest, Scene -> [handler] -> Handled.
//
// Plain functions without sockets or waiting, by topic in files of their own; any thread. What an
// HttpPlan, HttpErrand or HttpFeed holds lives on after the call, so it keeps copies, and the door.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "connectors/codec.h"
#include "connectors/event_limits.h"
#include "connectors/http/door.h"
#include "connectors/http/exchange.h"
#include "connectors/http/http_options.h"
#include "connectors/http/keys.h"
#include "connectors/http/pdf_text.h"
#include "connectors/json_reader.h"

namespace nudge {

// Whose an event is that this process took.
enum class Ownership { kUnknown, kTheirs, kAnothers };
struct OwnedEvent {
  Ownership whose = Ownership::kUnknown;
  std::optional<int64_t> offset;  // where it is stored, unless kUnknown
};

struct Scene {
  const Caller& caller;
  const HttpOptions& options;
  const EventLimits& limits;
  Door& door;
  PdfText& pdf;
  int64_t unix_seconds = 0;  // for `created`, which OpenAI's clients read
  // Of the event whose outcome has this offset; without one, of the newest with this id.
  std::function<OwnedEvent(const std::string& tenant, const std::string& id,
                           std::optional<int64_t> offset)>
      owned;
};

// One CloudEvent in structured or binary mode, or a batch.
Handled PostEvents(const HttpRequest& request, const Scene& scene);
Handled GetOutcome(const HttpRequest& request, const Scene& scene);
// As OpenAI's clients speak it.
Handled PostChatCompletions(const HttpRequest& request, const Scene& scene);
Handled GetModels(const HttpRequest& request, const Scene& scene);
// Who the key is, and what it may do.
Handled GetCaller(const HttpRequest& request, const Scene& scene);
Handled PostFeedback(const HttpRequest& request, const Scene& scene);
// What the tenant's model was taught: all of it for read and admin, else the caller's own.
Handled GetLessons(const HttpRequest& request, const Scene& scene);
// The snapshots of a tenant's adapter, one of their files, and news of further ones.
Handled GetAdapters(const HttpRequest& request, const Scene& scene);
Handled GetAdapterFile(const HttpRequest& request, const Scene& scene);
Handled GetAdapterEvents(const HttpRequest& request, const Scene& scene);
Handled PostDocuments(const HttpRequest& request, const Scene& scene);
Handled GetHealth(const HttpRequest& request, const Scene& scene);
Handled GetOpenApi(const HttpRequest& request, const Scene& scene);
// The page for people: connectors/web.
Handled GetPage(const HttpRequest& request, const Scene& scene);

// ---- What they share ----------------------------------------------------------------------------

// The body as JSON, UTF-8 throughout; it lives until the thread's next ParseJson or DecodeEvent.
std::variant<JsonValue, HttpRefusal> BodyOf(const HttpRequest& request, const Scene& scene);

// A whole number of the query in [least, most]; `otherwise` where it is not given.
std::variant<uint64_t, HttpRefusal> NumberOf(const HttpRequest& request, std::string_view name,
                                             uint64_t least, uint64_t most, uint64_t otherwise);

// Whether the client wants no more than to know that its event is stored (Prefer: respond-async).
bool RespondsAsync(const HttpRequest& request);

// For a path or a header: all but letters, digits and -_.~ as %XX.
std::string PercentEncoded(std::string_view text);

// 202: the event is stored, and where its outcome will be.
HttpResponse Pending(const std::string& id);

// 501 where lessons and snapshots cannot be had here.
std::optional<HttpResponse> RefuseWithoutState(const Scene& scene);

// For an event that has no outcome: not stored, perhaps not stored, or stored. `ending.outcome` is
// empty.
HttpResponse WithoutOutcome(const HttpEnding& ending, const std::string& id);

// A dead letter as an answer in the shape of an error.
HttpRefusal OfDeadLetter(const DeadLetter& letter);

// The answer to one event that is no question: {"event_id", "summary"}, or why not.
HttpResponse OfReceipt(const HttpEnding& ending, const std::string& id);
HttpPlan PlanOfReceipt(const HttpRequest& request, HttpPlan::Item event);

}  // namespace nudge
