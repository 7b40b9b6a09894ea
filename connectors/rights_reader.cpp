#include "connectors/rights_reader.h"

#include <cmath>
#include <limits>
#include <utility>

namespace nudge {
namespace {

constexpr double kExact = 9007199254740991;  // below 2^53: beyond it digits may be lost

void ReadNumber(JsonReader& json, const Place& place, double& number) {
  constexpr double kMost = std::numeric_limits<double>::max();
  json.Number(place, -kMost, kMost, number);
  if (json.ok() && std::abs(number) > kExact) {
    json.FailAt(place, "a number of 2^53 or more may lose digits",
                "write it as a text, digit by digit");
  }
  number += 0.0;  // -0 is 0
}

// ---- Metadata -----------------------------------------------------------------------------------

void ReadItems(JsonReader& json, const Place& place, std::vector<std::string>& items) {
  json.Items(place, [&](const Place& at) { json.Text(at, kNoLimit, items.emplace_back()); });
}

MetadataValue ReadValue(JsonReader& json, const Place& place) {
  switch (place.value.type()) {
    case JsonType::kInteger:
    case JsonType::kReal: {
      double number = 0;
      ReadNumber(json, place, number);
      return number;
    }
    case JsonType::kBool: {
      bool flag = false;
      json.Bool(place, flag);
      return flag;
    }
    case JsonType::kArray: {
      std::vector<std::string> items;
      ReadItems(json, place, items);
      return items;
    }
    default: {
      std::string text;
      json.Text(place, kNoLimit, text);
      return text;
    }
  }
}

struct Weight {
  size_t entries = 0;
  size_t bytes = 0;
};

Weight WeightOf(const MetadataValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return {1, text->size()};
  const auto* items = std::get_if<std::vector<std::string>>(&value);
  if (items == nullptr) return {1, sizeof(double)};
  Weight weight{1 + items->size(), 0};
  for (const std::string& item : *items) weight.bytes += item.size();
  return weight;
}

// ---- Filters ------------------------------------------------------------------------------------

using Kind = Filter::Kind;

constexpr std::pair<std::string_view, Kind> kComparisons[] = {
    {"eq", Kind::kEqual},           {"in", Kind::kIn},   {"gt", Kind::kGreater},
    {"gte", Kind::kGreaterOrEqual}, {"lt", Kind::kLess}, {"lte", Kind::kLessOrEqual}};
constexpr std::pair<std::string_view, Kind> kOperators[] = {
    {"and", Kind::kAnd}, {"or", Kind::kOr}, {"not", Kind::kNot}};

constexpr std::string_view kShape =
    "give field with one of eq, in, gt, gte, lt and lte, or one of and, or and not";

std::string_view NameOf(Kind kind) {
  for (const auto& [name, of] : kComparisons) {
    if (of == kind) return name;
  }
  for (const auto& [name, of] : kOperators) {
    if (of == kind) return name;
  }
  return "";
}

class FilterReader {
 public:
  FilterReader(JsonReader& json, const Place& root, const EventLimits& limits)
      : json_(json), root_(root), limits_(limits) {}

  void Read(const Place& place, size_t depth, Filter& filter) {
    if (depth > limits_.filter_depth) {
      return json_.FailSize(root_, depth, "conditions inside each other or more",
                            {"limits.filter_depth", limits_.filter_depth});
    }
    bool is_comparison = false;
    std::optional<Kind> kind;
    std::optional<JsonValue> operand;
    json_.Members(place, [&](const Place& at) {
      if (at.key == "field") {
        if (!filter.field.empty()) return json_.FailAt(at, "given twice", "give it once");
        json_.Id(at, {"limits.id_bytes", limits_.id_bytes}, filter.field);
        return Count(filter.field.size());
      }
      for (const auto& [name, of] : kComparisons) is_comparison = is_comparison || name == at.key;
      if (kind)
        return json_.FailAt(at, "one condition more than " + std::string(NameOf(*kind)),
                            "put several into the list of an and");
      kind = KindOf(at);
      operand = at.value;
    });
    if (!json_.ok()) return;
    if (!kind || is_comparison == filter.field.empty()) {
      return json_.FailAt(place,
                          !kind           ? "no condition"
                          : is_comparison ? "field: missing"
                                          : "field: it goes with a comparison",
                          std::string(kShape));
    }
    filter.kind = *kind;
    const Place at{&place, NameOf(*kind), *operand};
    if (is_comparison) return ReadValues(at, filter);
    ReadParts(at, depth, filter);
  }

 private:
  std::optional<Kind> KindOf(const Place& at) {
    for (const auto& [name, kind] : kComparisons) {
      if (name == at.key) return kind;
    }
    for (const auto& [name, kind] : kOperators) {
      if (name == at.key) return kind;
    }
    json_.FailAt(at, "unknown", std::string(kShape));
    return std::nullopt;
  }

  void ReadParts(const Place& place, size_t depth, Filter& filter) {
    if (filter.kind == Kind::kNot) {
      Read(place, depth + 1, filter.parts.emplace_back());
      return Count(0);
    }
    json_.Items(place, [&](const Place& at) {
      Read(at, depth + 1, filter.parts.emplace_back());
      if (json_.ok()) Count(0);
    });
    if (json_.ok() && filter.parts.empty()) json_.FailAt(place, "empty", "give a condition");
  }

  void ReadValues(const Place& place, Filter& filter) {
    if (filter.kind != Kind::kIn) return ReadValue(place, filter);
    json_.Items(place, [&](const Place& at) { ReadValue(at, filter); });
    if (json_.ok() && filter.values.empty()) json_.FailAt(place, "empty", "give a value");
  }

  void ReadValue(const Place& place, Filter& filter) {
    const bool is_range = filter.kind != Kind::kEqual && filter.kind != Kind::kIn;
    MetadataValue value = nudge::ReadValue(json_, place);
    if (!json_.ok()) return;
    if (std::holds_alternative<std::vector<std::string>>(value)) {
      return json_.FailType(place, "a text, a number or a boolean", "give several values by in");
    }
    if (auto* text = std::get_if<std::string>(&value)) {
      if (is_range && !InstantOf(*text)) {
        return json_.FailAt(place, Quoted(*text) + " is neither a number nor a time",
                            "write a time as RFC 3339 has it: 2024-02-29T12:00:00Z or 2024-02-29");
      }
      Count(text->size());
      filter.values.emplace_back(std::move(*text));
    } else if (const auto* number = std::get_if<double>(&value)) {
      Count(sizeof *number);
      filter.values.emplace_back(*number);
    } else if (is_range) {
      json_.FailAt(place, "a boolean is in no range", "compare it by eq");
    } else {
      Count(1);
      filter.values.emplace_back(std::get<bool>(value));
    }
  }

  // A part, a field or a value more.
  void Count(size_t bytes) {
    if (!json_.ok()) return;
    bytes_ += bytes;
    if (++terms_ > limits_.filter_terms) {
      return json_.FailSize(root_, terms_, "fields, values and conditions or more",
                            {"limits.filter_terms", limits_.filter_terms});
    }
    if (bytes_ > limits_.filter_bytes) {
      json_.FailSize(root_, bytes_, "bytes or more", {"limits.filter_bytes", limits_.filter_bytes});
    }
  }

  JsonReader& json_;
  const Place& root_;
  const EventLimits& limits_;
  size_t terms_ = 0;
  size_t bytes_ = 0;
};

// "[1,2]" of anything that can be written.
template <class Items, class Write>
void WriteList(const Items& items, JsonWriter& json, const Write& write) {
  json.Raw("[");
  bool first = true;
  for (const auto& item : items) {
    if (!std::exchange(first, false)) json.Raw(",");
    write(item);
  }
  json.Raw("]");
}

void WriteValue(const FilterValue& value, JsonWriter& json) {
  if (const auto* text = std::get_if<std::string>(&value)) json.Text(*text);
  if (const auto* number = std::get_if<double>(&value)) json.Number(*number);
  if (const auto* flag = std::get_if<bool>(&value)) json.Bool(*flag);
}

}  // namespace

void ReadMetadata(JsonReader& json, const Place& place, const EventLimits& limits,
                  Metadata& metadata) {
  Weight sum;
  json.Members(place, [&](const Place& at) {
    if (at.value.type() == JsonType::kNull) return;
    MetadataValue value = ReadValue(json, at);
    if (!json.ok()) return;
    if (at.key.empty()) return json.FailAt(at, "empty name", "give each entry a name");
    if (HasControl(at.key)) {
      return json.FailAt(at, "name has a control character", "a name must be printable");
    }
    const Weight weight = WeightOf(value);
    sum.entries += weight.entries;
    sum.bytes += at.key.size() + weight.bytes;
    if (!metadata.emplace(at.key, std::move(value)).second) {
      return json.FailAt(at, "given twice", "give it once");
    }
    const Limit entries{"limits.metadata_entries", limits.metadata_entries};
    if (sum.entries > entries.most) {
      return json.FailSize(place, sum.entries, "entries or more", entries);
    }
    const Limit bytes{"limits.metadata_bytes", limits.metadata_bytes};
    if (sum.bytes > bytes.most) json.FailSize(place, sum.bytes, "bytes or more", bytes);
  });
}

void WriteMetadata(const Metadata& metadata, JsonWriter& json) {
  json.Raw("{");
  bool first = true;
  for (const auto& [name, value] : metadata) {
    if (!std::exchange(first, false)) json.Raw(",");
    json.Text(name).Raw(":");
    if (const auto* items = std::get_if<std::vector<std::string>>(&value)) {
      WriteList(*items, json, [&](const std::string& item) { json.Text(item); });
    } else if (const auto* number = std::get_if<double>(&value)) {
      json.Number(*number);
    } else if (const auto* flag = std::get_if<bool>(&value)) {
      json.Bool(*flag);
    } else {
      json.Text(std::get<std::string>(value));
    }
  }
  json.Raw("}");
}

void ReadGroups(JsonReader& json, const Place& place, const EventLimits& limits, Groups& groups) {
  json.Items(place, [&](const Place& at) {
    std::string group;
    json.Id(at, {"limits.id_bytes", limits.id_bytes}, group);
    if (!json.ok()) return;
    groups.insert(std::move(group));
    if (groups.size() > limits.groups) {
      json.FailSize(place, groups.size(), "groups or more", {"limits.groups", limits.groups});
    }
  });
}

void WriteGroups(const Groups& groups, JsonWriter& json) {
  WriteList(groups, json, [&](const std::string& group) { json.Text(group); });
}

void ReadFilter(JsonReader& json, const Place& place, const EventLimits& limits, Filter& filter) {
  FilterReader(json, place, limits).Read(place, 1, filter);
}

void WriteFilter(const Filter& filter, JsonWriter& json) {
  json.Raw("{");
  if (!filter.field.empty()) json.Raw(R"("field":)").Text(filter.field).Raw(",");
  json.Raw("\"").Raw(NameOf(filter.kind)).Raw("\":");
  switch (filter.kind) {
    case Kind::kNot:
      WriteFilter(filter.parts.front(), json);
      break;
    case Kind::kAnd:
    case Kind::kOr:
      WriteList(filter.parts, json, [&](const Filter& part) { WriteFilter(part, json); });
      break;
    case Kind::kIn:
      WriteList(filter.values, json, [&](const FilterValue& value) { WriteValue(value, json); });
      break;
    default:
      WriteValue(filter.values.front(), json);
  }
  json.Raw("}");
}

}  // namespace nudge
