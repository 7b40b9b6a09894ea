#include "connectors/http/event_draft.h"

#include <limits>

#include "connectors/codec.h"

namespace nudge {
namespace {

constexpr size_t kIdBytes = 16;  // of those that are made here

Role NeededFor(const Event& event) {
  struct Needed {
    Role operator()(const DocumentUpsert&) const { return Role::kIngest; }
    Role operator()(const DocumentDelete&) const { return Role::kIngest; }
    Role operator()(const SourceSync&) const { return Role::kIngest; }
    Role operator()(const Query&) const { return Role::kAsk; }
    Role operator()(const Feedback&) const { return Role::kFeedback; }
    Role operator()(const ExampleGiven&) const { return Role::kFeedback; }
    // These command.
    Role operator()(const PromptUpsert&) const { return Role::kAdmin; }
    Role operator()(const PromptDelete&) const { return Role::kAdmin; }
    Role operator()(const AdapterCommand&) const { return Role::kAdmin; }
    Role operator()(const Forget&) const { return Role::kAdmin; }
  };
  return std::visit(Needed{}, event.data);
}

// The asker's groups: the key's own, or those that a back end names for whom it speaks of. Whom it
// names without groups has none.
std::optional<HttpRefusal> GiveGroups(const Caller& caller, Event& event) {
  auto* query = std::get_if<Query>(&event.data);
  if (query == nullptr || caller.open || (caller.names_users && !query->groups.empty())) return {};
  if (!query->groups.empty() && query->groups != caller.groups) {
    return HttpRefusal{
        403, "wrong_groups", "the key names no groups but its own",
        "leave groups out, or use a key that may name users (nudge key add --names-users)",
        "groups"};
  }
  if (event.user == caller.user) query->groups = caller.groups;
  return {};
}

std::string Whole(const EventDraft& draft) {
  std::string text;
  JsonWriter json(text);
  json.Raw(R"({"id":)").Text(draft.id).Raw(R"(,"source":)").Text(draft.source);
  json.Raw(R"(,"tenant":)").Text(draft.tenant);
  if (!draft.user.empty()) json.Raw(R"(,"user":)").Text(draft.user);
  if (!draft.members.empty()) json.Raw(",").Raw(draft.members);
  json.Raw("}");
  return text;
}

}  // namespace

std::variant<std::string, HttpRefusal> TenantOf(const Caller& caller, const HttpRequest& request,
                                                const std::string& named) {
  const std::string header(request.Header("x-nudge-tenant"));
  if (!named.empty() && !header.empty() && named != header) {
    return HttpRefusal{400, "two_tenants", "x-nudge-tenant and the body name different tenants",
                       "name one of them", "tenant"};
  }
  const std::string& tenant = named.empty() ? header : named;
  if (caller.open) return tenant.empty() ? "default" : tenant;
  if (tenant.empty() || tenant == caller.tenant) return caller.tenant;
  return HttpRefusal{403, "wrong_tenant", "the key is not for the tenant " + Quoted(tenant),
                     "leave the tenant out, or use a key of that tenant", "tenant"};
}

std::variant<std::string, HttpRefusal> UserOf(const Caller& caller, const std::string& named) {
  if (caller.open) return named;
  if (named.empty() || named == caller.user) return caller.user;
  if (caller.names_users) return named;
  return HttpRefusal{
      403, "wrong_user", "the key is not that user's: " + Quoted(named),
      "leave user out, or use a key that may name users (nudge key add --names-users)", "user"};
}

std::variant<HttpPlan::Item, HttpRefusal> Admit(EventDraft draft, const Caller& caller,
                                                const HttpRequest& request,
                                                const EventLimits& limits) {
  auto tenant = TenantOf(caller, request, draft.tenant);
  if (auto* refusal = std::get_if<HttpRefusal>(&tenant)) return std::move(*refusal);
  auto user = UserOf(caller, draft.user);
  if (auto* refusal = std::get_if<HttpRefusal>(&user)) return std::move(*refusal);
  draft.tenant = std::get<std::string>(std::move(tenant));
  draft.user = std::get<std::string>(std::move(user));
  if (draft.id.empty()) draft.id = RandomHex(kIdBytes);
  if (draft.source.empty()) draft.source = kHttpSource;
  const std::string text = Whole(draft);
  Result<Event> event = DecodeEvent(text, limits);
  if (!event.ok()) return ToRefusal(event.error());
  if (auto refusal = GiveGroups(caller, *event)) return *std::move(refusal);
  const Role role = NeededFor(*event);
  if (!caller.May(role)) {
    return HttpRefusal{403, "role_missing",
                       std::string(TypeName(*event)) + " needs the role " + std::string(Name(role)),
                       "use a key that has it (nudge key add --roles)", ""};
  }
  std::string json = EncodeEvent(*event);
  if (json.size() > limits.line_bytes) {
    return HttpRefusal{413, "too_large",
                       "the event has " + std::to_string(json.size()) +
                           " bytes once written, limits.line_bytes is " +
                           std::to_string(limits.line_bytes),
                       "send less in one event", ""};
  }
  return HttpPlan::Item{event->tenant, event->id, event->user, std::move(json), caller.key_id};
}

EventDraft DraftOf(JsonReader& json, const Place& place) {
  EventDraft draft;
  const auto attribute = [&](std::string_view name) -> std::string* {
    if (name == "id") return &draft.id;
    if (name == "source") return &draft.source;
    if (name == "tenant") return &draft.tenant;
    return name == "user" ? &draft.user : nullptr;
  };
  json.Members(place, [&](const Place& at) {
    std::string* const out = attribute(at.key);
    if (out == nullptr) return CopyMember(json, at, at.key, draft.members);
    if (at.value.type() == JsonType::kNull) return;
    if (!out->empty()) return json.FailAt(at, "given twice", "give it once");
    json.Id(at, kNoLimit, *out);
  });
  return draft;
}

void CopyJson(JsonReader& json, const Place& place, JsonWriter& out) {
  bool first = true;
  const auto comma = [&] { out.Raw(std::exchange(first, false) ? "" : ","); };
  switch (place.value.type()) {
    case JsonType::kObject:
      out.Raw("{");
      json.Members(place, [&](const Place& at) {
        comma();
        out.Text(at.key).Raw(":");
        CopyJson(json, at, out);
      });
      out.Raw("}");
      return;
    case JsonType::kArray:
      out.Raw("[");
      json.Items(place, [&](const Place& at) {
        comma();
        CopyJson(json, at, out);
      });
      out.Raw("]");
      return;
    case JsonType::kInteger: {
      std::string digits;  // of any 64 bits, signed or not
      json.Id(place, kNoLimit, digits);
      out.Raw(digits);
      return;
    }
    case JsonType::kReal: {
      double number = 0;
      json.Number(place, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max(),
                  number);
      out.Number(number);
      return;
    }
    case JsonType::kString:
      out.Text(json.View(place, kNoLimit));
      return;
    case JsonType::kBool: {
      bool value = false;
      json.Bool(place, value);
      out.Bool(value);
      return;
    }
    case JsonType::kNull:
      out.Raw("null");
      return;
  }
}

void CopyMember(JsonReader& json, const Place& place, std::string_view name, std::string& members) {
  JsonWriter out(members);
  if (!members.empty()) out.Raw(",");
  out.Text(name).Raw(":");
  CopyJson(json, place, out);
}

std::string GivenId(const HttpRequest& request) {
  const std::string_view ours = request.Header("x-nudge-event-id");
  return std::string(ours.empty() ? request.Header("idempotency-key") : ours);
}

}  // namespace nudge
