// What is written from the table of keys: the schema, the documentation, the semantic hash.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "pipeline/config/config.h"
#include "pipeline/config/config_fields.h"
#include "stages/hash.h"

namespace nudge {
namespace {

using namespace keys;
using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// A field's value as it stands in the file; of numbers that are whole as whole numbers.
OrderedJson ValueOf(const Slot& slot) {
  return std::visit(Overloaded{
                        [](const Presets& presets) {
                          OrderedJson list = OrderedJson::array();
                          for (DecodingPreset preset : *presets.at) {
                            OrderedJson object = OrderedJson::object();
                            for (const Field& field : OptionsOf(preset, "")) {
                              object[field.path.substr(1)] = ValueOf(field.slot);
                            }
                            list.push_back(std::move(object));
                          }
                          return list;
                        },
                        [](const Number<double>& number) {
                          const double value = *number.at;
                          if (value == std::trunc(value)) return OrderedJson(std::llround(value));
                          return OrderedJson(value);
                        },
                        [](const Number<std::chrono::milliseconds>& number) {
                          return OrderedJson(number.at->count());
                        },
                        [](const Subset& subset) {
                          OrderedJson list = OrderedJson::array();
                          for (size_t i = 0; i < subset.names.size(); ++i) {
                            if (subset.at[i]) list.push_back(subset.names[i]);
                          }
                          return list;
                        },
                        [](const auto& other) { return OrderedJson(*other.at); },
                    },
                    slot);
}

// What the JSON Schema says of a field's values.
OrderedJson ConstraintsOf(const Slot& slot) {
  const auto bounds = [](double value) {
    return value == std::trunc(value) ? OrderedJson(std::llround(value)) : OrderedJson(value);
  };
  OrderedJson schema = OrderedJson::object();
  std::visit(Overloaded{
                 [&](const Flag&) { schema["type"] = "boolean"; },
                 [&]<class T>(const Number<T>& number) {
                   schema["type"] = std::is_same_v<T, double> ? "number" : "integer";
                   schema["minimum"] = bounds(number.least);
                   schema["maximum"] = bounds(number.most);
                 },
                 [&](const Text& text) {  // in characters: never more than bytes
                   schema["type"] = "string";
                   schema["minLength"] = bounds(std::min(text.least_bytes, 1.0));
                   schema["maxLength"] = bounds(text.most_bytes);
                 },
                 [&](const Choice& choice) { schema["enum"] = choice.names; },
                 [&](const Subset& subset) {
                   OrderedJson words = OrderedJson::array();
                   for (const auto& [word, list] : subset.words) words.push_back(word);
                   schema["oneOf"] = {{{"type", "array"},
                                       {"items", {{"enum", subset.names}}},
                                       {"minItems", 1},
                                       {"uniqueItems", true}},
                                      {{"enum", words}}};
                 },
                 [&](const Path& path) {
                   schema["type"] = "string";
                   if (path.required) schema["minLength"] = 1;
                   schema["maxLength"] = kPathBytes;
                 },
                 [&](const Properties&) {
                   schema["type"] = "object";
                   schema["additionalProperties"] = {{"type", "string"}};
                 },
                 [&](const Presets& presets) {
                   DecodingPreset preset;
                   OrderedJson item = {{"type", "object"}};
                   for (const Field& field : OptionsOf(preset, "")) {
                     OrderedJson member = ConstraintsOf(field.slot);
                     member["description"] = field.what;
                     item["properties"][field.path.substr(1)] = std::move(member);
                   }
                   item["required"] = {"name"};
                   item["additionalProperties"] = false;
                   schema["type"] = "array";
                   schema["minItems"] = bounds(presets.least);
                   schema["maxItems"] = bounds(presets.most);
                   schema["items"] = std::move(item);
                 },
             },
             slot);
  return schema;
}

std::string_view EffectName(Effect effect) {
  return effect == Effect::kSemantic ? "outcomes" : "operation";
}

bool IsRequired(const Slot& slot) {
  const auto* path = std::get_if<Path>(&slot);
  return path != nullptr && path->required;
}

std::string TypeForPeople(const Field& field) {
  const auto behind = [&](std::string range) {
    return field.unit.empty() ? range : range + " " + std::string(field.unit);
  };
  return std::visit(
      Overloaded{
          [](const Flag&) -> std::string { return "true or false"; },
          [&]<class T>(const Number<T>& number) {
            return std::string(std::is_same_v<T, double> ? "number " : "whole number ") +
                   behind(ToRange(number.least, number.most));
          },
          [&](const Text& text) {
            return "text, " + behind(ToRange(text.least_bytes, text.most_bytes));
          },
          [](const Choice& choice) { return Join(choice.names, " or "); },
          [](const Subset& subset) {
            std::string words;
            for (const auto& [word, list] : subset.words) words += ", or " + word;
            return "list of " + Join(subset.names, ", ") + words;
          },
          [](const Path& path) -> std::string {
            return path.base == Path::Base::kConfigFolder ? "input path" : "output path";
          },
          [](const Properties&) -> std::string { return "object of texts"; },
          [&](const Presets& presets) {
            return "list, " + behind(ToRange(presets.least, presets.most));
          },
      },
      field.slot);
}

std::string DefaultForPeople(const Field& field) {
  if (IsRequired(field.slot)) return "required";
  const OrderedJson value = ValueOf(field.slot);
  return value == OrderedJson("") ? "empty" : "`" + value.dump() + "`";
}

void AddRow(const Field& field, std::string_view name, std::string& out) {
  out += "| `" + std::string(name) + "` | " + TypeForPeople(field) + " | " +
         DefaultForPeople(field) + " | " + std::string(EffectName(field.effect)) + " | " +
         std::string(field.what) + " |\n";
}

// The schemas of the object in which the key stands, as those are inside each other.
OrderedJson& MembersAround(const std::string& path, OrderedJson& properties) {
  OrderedJson* members = &properties;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != path.npos; dot = path.find('.', begin)) {
    OrderedJson& section = (*members)[path.substr(begin, dot - begin)];
    if (begin > 0 && !section.contains("type")) {
      section = {{"type", "object"},
                 {"properties", OrderedJson::object()},
                 {"additionalProperties", false}};
    }
    members = &section["properties"];
    begin = dot + 1;
  }
  return *members;
}

constexpr char kTableHead[] =
    "| key | value | default | changes | what it is |\n|---|---|---|---|---|\n";

}  // namespace

std::string SemanticSha256(const Config& config) {
  constexpr size_t kNamedFileBytes = 16 << 20;
  Config copy = config;
  Json values = Json::object();
  for (const Field& field : FieldsOf(copy)) {
    if (field.effect != Effect::kSemantic) continue;
    const auto* path = std::get_if<Path>(&field.slot);
    if (path != nullptr && !path->at->empty()) {
      values[field.path] = Sha256Hex(ReadWhole(*path->at, kNamedFileBytes));
    } else {
      values[field.path] = Json(ValueOf(field.slot));
    }
  }
  return Sha256Hex(values.dump());
}

std::string ConfigSchema() {
  Config defaults;
  OrderedJson properties = {{"$schema", {{"type", "string"}}}};
  OrderedJson required = OrderedJson::array();
  for (const Section& section : Sections()) {
    properties[std::string(section.name)] = {{"type", "object"}, {"description", section.what}};
  }
  for (const Field& field : FieldsOf(defaults)) {
    const size_t dot = field.path.find('.');
    OrderedJson& parent = MembersAround(field.path, properties);
    OrderedJson schema = ConstraintsOf(field.slot);
    if (IsRequired(field.slot)) {
      required.push_back(field.path.substr(0, dot));
      properties[field.path.substr(0, dot)]["required"].push_back(LastPart(field.path));
    } else {
      schema["default"] = ValueOf(field.slot);
    }
    schema["description"] = field.what;
    schema["x-changes"] = EffectName(field.effect);
    parent[std::string(LastPart(field.path))] = std::move(schema);
  }
  for (const Section& section : Sections()) {
    properties[std::string(section.name)]["additionalProperties"] = false;
  }
  const OrderedJson schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                              {"title", "nudge configuration"},
                              {"type", "object"},
                              {"properties", std::move(properties)},
                              {"required", std::move(required)},
                              {"additionalProperties", false}};
  return schema.dump(2) + "\n";
}

std::string ConfigTables() {
  Config defaults;
  const Fields fields = FieldsOf(defaults);
  std::string out = kTableHead;
  for (const Field& field : fields) {
    if (field.path.find('.') == std::string::npos) AddRow(field, field.path, out);
  }
  for (const Section& section : Sections()) {
    out += "\n## " + std::string(section.name) + "\n\n" + std::string(section.what) + "\n\n";
    out += kTableHead;
    for (const Field& field : fields) {
      if (field.path.starts_with(std::string(section.name) + ".")) {
        AddRow(field, std::string_view(field.path).substr(section.name.size() + 1), out);
      }
    }
    if (section.name == "prompt") {
      DecodingPreset preset;
      out += "\nEach of `prompt.presets`:\n\n";
      out += kTableHead;
      for (const Field& field : OptionsOf(preset, "")) AddRow(field, LastPart(field.path), out);
    }
  }
  return out;
}

}  // namespace nudge
