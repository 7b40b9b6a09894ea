// An event as a request gives it, and what the door adds: whose it is, and an id.
//
//   EventDraft, Caller -> [Admit] -> HttpPlan::Item | HttpRefusal
//
// Pure but for the ids that it makes; any thread.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "connectors/event_limits.h"
#include "connectors/http/exchange.h"
#include "connectors/http/keys.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"

namespace nudge {

// The source of events that the convenient paths make, so that feedback finds its question.
inline constexpr std::string_view kHttpSource = "/http";

struct EventDraft {
  std::string id;  // these four: empty where the request does not say
  std::string source;
  std::string tenant;
  std::string user;
  std::string members;  // all else as members of a JSON object: "type":...,"data":{...}
};

// Writes tenant and user into the event, reads it as the log's reader will, and looks whether its
// sender may. The request's header x-nudge-tenant counts where the draft names none.
std::variant<HttpPlan::Item, HttpRefusal> Admit(EventDraft draft, const Caller& caller,
                                                const HttpRequest& request,
                                                const EventLimits& limits);

// The event that stands at `place`, a CloudEvent in structured mode, maybe without the four.
EventDraft DraftOf(JsonReader& json, const Place& place);

// Whose tenant the request speaks of; an HttpRefusal if the key is another's.
std::variant<std::string, HttpRefusal> TenantOf(const Caller& caller, const HttpRequest& request,
                                                const std::string& named);

// Whom the request speaks for; an HttpRefusal if the key is another's and may name nobody.
std::variant<std::string, HttpRefusal> UserOf(const Caller& caller, const std::string& named);

// Writes a value as it is.
void CopyJson(JsonReader& json, const Place& place, JsonWriter& out);

// The same of a member, name and all, behind others.
void CopyMember(JsonReader& json, const Place& place, std::string_view name, std::string& members);

// The id that the client gives its event in a header, or empty.
std::string GivenId(const HttpRequest& request);

}  // namespace nudge
