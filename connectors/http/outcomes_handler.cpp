#include "connectors/erased_outcomes.h"
#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"
#include "connectors/http/request_target.h"

namespace nudge {

Handled GetOutcome(const HttpRequest& request, const Scene& scene) {
  const auto tenant = TenantOf(scene.caller, request, std::string(request.Query("tenant")));
  if (const auto* refusal = std::get_if<HttpRefusal>(&tenant)) return ToResponse(*refusal);
  const auto& name = std::get<std::string>(tenant);
  const std::string id = PercentDecoded(request.path.substr(request.path.rfind('/') + 1));
  const std::optional<int64_t> newest = scene.owned(name, id, std::nullopt).offset;
  const bool is_awaited = newest && scene.door.Awaits(name, *newest);
  const std::optional<std::string> outcome = scene.door.Outcome(name, id);
  std::optional<int64_t> offset;
  const auto erased = outcome ? DecodeErased(*outcome) : std::nullopt;
  if (erased) {
    offset = erased->offset;
  } else if (outcome) {
    const Result<RecordedOutcome> read = DecodeOutcome(*outcome);
    if (!read.ok()) return ToResponse(ToRefusal(read.error(), 500));
    offset = read->offset;
  }
  const Ownership owned = scene.owned(name, id, offset).whose;
  if (scene.caller.May(Role::kRead) || owned == Ownership::kTheirs) {
    if (erased) {
      return ToResponse({410, "erased", "the outcome of " + Quoted(id) + " was erased",
                         "what the event said was forgotten: ask anew under a new id", ""});
    }
    if (outcome) return HttpResponse{200, "application/cloudevents+json", *outcome, {}};
    if (is_awaited) return Pending(id);
    return ToResponse({404, "no_outcome",
                       "no outcome of " + Quoted(id) + " is among the newest " +
                           std::to_string(scene.door.OutcomesHeld()) + " that are held here",
                       "it is not there yet, older than those, erased, or of no event: send the "
                       "event again with the same id, and it counts once",
                       ""});
  }
  // The same for one that is not there and one that is not theirs: nobody learns which ids are.
  return ToResponse({404, "no_outcome", "no outcome of " + Quoted(id) + " is here for you",
                     "it is not there yet, too old, erased, of no event, or another user's: those "
                     "need a key with the role read",
                     ""});
}

}  // namespace nudge
