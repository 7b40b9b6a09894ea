#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "connectors/json_faults.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

using Found = std::vector<std::optional<std::string>>;
constexpr std::string_view kNames[] = {"tenant", "source", "id", "type"};

// With faults mended only where something is missing without.
Found FindNames(std::string_view bytes) {
  Found found = PeekStrings(bytes, kNames);
  const auto is_found = [](const auto& name) { return name.has_value(); };
  if (std::all_of(found.begin(), found.end(), is_found)) return found;
  // Bad bytes become DEL, a control character, so that a field with bad bytes is left out.
  return PeekStrings(MendJson(IsUtf8(bytes) ? bytes : ReplaceInvalidUtf8(bytes, "\x7f")).bytes,
                     kNames);
}

EventHead HeadOf(Found found, const EventLimits& limits) {
  EventHead head;
  std::string* const fields[] = {&head.tenant, &head.source, &head.id, &head.type};
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i] || HasControl(*found[i])) continue;
    if (found[i]->size() > (i == 0 ? limits.tenant_bytes : limits.id_bytes)) continue;
    *fields[i] = *std::move(found[i]);
  }
  return head;
}

EventHead HeadOf(JsonValue value, const EventLimits& limits) {
  Found found(std::size(kNames));
  JsonReader reader;
  if (value.type() != JsonType::kObject) return {};
  reader.Members({nullptr, "", value}, [&](const Place& at) {
    const auto* const name = std::find(std::begin(kNames), std::end(kNames), at.key);
    if (name == std::end(kNames)) return;
    std::string text;
    JsonReader of_one;
    of_one.Id(at, kNoLimit, text);
    std::optional<std::string>& slot = found[static_cast<size_t>(name - kNames)];
    if (of_one.ok() && !slot) slot = std::move(text);
  });
  return HeadOf(std::move(found), limits);
}

// The head of an event inside of what was sent in its place: a batch, Kafka Connect's envelope, a
// text that holds JSON. Of several events only what they have in common.
EventHead HeadInside(std::string_view bytes, const EventLimits& limits) {
  const Result<JsonValue> root = ParseJson(bytes, limits.json_depth);
  if (!root) return {};
  std::optional<EventHead> head;
  std::string text;
  JsonReader reader;
  if (root->type() == JsonType::kString) {
    reader.Text({nullptr, "", *root}, kNoLimit, text);
    return HeadOf(FindNames(text), limits);
  }
  if (root->type() == JsonType::kObject) {
    reader.Members({nullptr, "", *root}, [&](const Place& at) {
      if (at.key == "payload" && !head) head = HeadOf(at.value, limits);
    });
  } else if (root->type() == JsonType::kArray) {
    reader.Items({nullptr, "", *root}, [&](const Place& at) {
      EventHead one = HeadOf(at.value, limits);
      if (!head) {
        head = std::move(one);
        return;
      }
      for (const auto field :
           {&EventHead::tenant, &EventHead::source, &EventHead::id, &EventHead::type}) {
        if ((*head).*field != one.*field) ((*head).*field).clear();
      }
    });
  }
  return head.value_or(EventHead{});
}

}  // namespace

EventHead PeekHead(std::string_view bytes, const EventLimits& limits) {
  bytes = WithoutMarks(bytes);
  const std::string_view framed = BehindFraming(bytes);
  if (!framed.empty()) bytes = framed;
  EventHead head = HeadOf(FindNames(bytes), limits);
  return head == EventHead{} ? HeadInside(bytes, limits) : head;
}

}  // namespace nudge
