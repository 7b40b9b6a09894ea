#include <limits>

#include "connectors/http/event_draft.h"
#include "connectors/http/handlers.h"

namespace nudge {
namespace {

constexpr uint64_t kLessonsUsual = 50;
constexpr uint64_t kLessonsMost = 500;

// Whose lessons the caller gets; nothing: everybody's.
std::variant<std::optional<std::string>, HttpRefusal> UserAsked(const HttpRequest& request,
                                                                const Caller& caller) {
  const std::string named(request.Query("user"));
  if (caller.May(Role::kRead)) return named.empty() ? std::nullopt : std::optional(named);
  auto user = UserOf(caller, named);
  if (auto* refusal = std::get_if<HttpRefusal>(&user)) return std::move(*refusal);
  return std::optional(std::get<std::string>(std::move(user)));
}

}  // namespace

Handled GetLessons(const HttpRequest& request, const Scene& scene) {
  if (auto refused = RefuseWithoutState(scene)) return *std::move(refused);
  auto tenant = TenantOf(scene.caller, request, std::string(request.Query("tenant")));
  if (const auto* refusal = std::get_if<HttpRefusal>(&tenant)) return ToResponse(*refusal);
  auto user = UserAsked(request, scene.caller);
  if (const auto* refusal = std::get_if<HttpRefusal>(&user)) return ToResponse(*refusal);
  const auto limit = NumberOf(request, "limit", 1, kLessonsMost, kLessonsUsual);
  if (const auto* refusal = std::get_if<HttpRefusal>(&limit)) return ToResponse(*refusal);
  const auto after = NumberOf(request, "after", 0, std::numeric_limits<uint64_t>::max(), 0);
  if (const auto* refusal = std::get_if<HttpRefusal>(&after)) return ToResponse(*refusal);
  LessonsAsked asked;
  asked.tenant = std::get<std::string>(std::move(tenant));
  asked.user = std::get<std::optional<std::string>>(std::move(user));
  asked.lessons_max = std::get<uint64_t>(limit);
  if (!request.Query("after").empty()) asked.after = std::get<uint64_t>(after);
  return HttpErrand{[&door = scene.door, asked = std::move(asked)] {
    const Result<std::string> lessons = door.Lessons(asked);
    if (lessons.ok()) return HttpResponse{200, "application/json", *lessons, {}};
    HttpResponse response = ToResponse(ToRefusal(lessons.error(), 503));
    response.headers.emplace_back("Retry-After", "1");
    return response;
  }};
}

}  // namespace nudge
