#include "connectors/json_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "connectors/json_writer.h"

namespace nudge {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

// simdjson's element is a pointer and an index; a JsonValue carries them through the header.
static_assert(sizeof(element) == sizeof(JsonValue) && std::is_trivially_copyable_v<element>);

element ElementOf(JsonValue value) {
  return std::bit_cast<element>(value);
}

JsonValue ValueOf(element one) {
  return std::bit_cast<JsonValue>(one);
}

std::string_view Describe(JsonType type) {
  switch (type) {
    case JsonType::kArray:
      return "an array";
    case JsonType::kObject:
      return "an object";
    case JsonType::kInteger:
      return "an integer";
    case JsonType::kReal:
      return "a number with a fraction or exponent";
    case JsonType::kString:
      return "a string";
    case JsonType::kBool:
      return "a boolean";
    case JsonType::kNull:
      break;
  }
  return "null";
}

std::string Digits(double value) {
  std::string digits;
  JsonWriter(digits).Number(value);
  return digits;
}

// Walks JSON as far as it is JSON, without recursion. simdjson does not say where it stopped; this
// does, and picks up strings at the top level on its way.
class Scan : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Scan(std::span<const std::string_view> names)
      : found(names.size()), names_(names), missing_(names.size()) {}

  size_t error_position = 0;  // bytes read when it stopped, counted from 1; 0: all is JSON
  std::vector<std::optional<std::string>> found;

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override { return Other(); }
  bool number_unsigned(number_unsigned_t) override { return Other(); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool string(string_t& value) override {
    if (depth_ != 1 || !wanted_) return true;
    if (!found[*wanted_]) {
      found[*wanted_] = std::move(value);
      --missing_;
    }
    wanted_.reset();
    return missing_ > 0;
  }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    wanted_.reset();
    if (depth_ != 1) return true;
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at != names_.end()) wanted_ = static_cast<size_t>(at - names_.begin());
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    error_position = position;
    return false;
  }

 private:
  bool Other() {
    wanted_.reset();
    return true;
  }
  bool Enter() {
    ++depth_;
    return Other();
  }
  bool Leave() {
    --depth_;
    return Other();
  }

  const std::span<const std::string_view> names_;
  size_t missing_;
  size_t depth_ = 0;
  std::optional<size_t> wanted_;
};

Error DescribeFault(std::string_view bytes, simdjson::error_code error, size_t depth) {
  switch (error) {
    case simdjson::UTF8_ERROR:
      return {Code::kInvalidUtf8, "not UTF-8 at byte " + std::to_string(FirstInvalidUtf8(bytes)),
              "encode it in UTF-8"};
    case simdjson::DEPTH_ERROR:
      return {Code::kTooLarge, "JSON is nested deeper than " + std::to_string(depth),
              "flatten it, or raise the limit json_depth"};
    case simdjson::EMPTY:
      return {Code::kInvalidJson, "empty: no JSON", ""};
    case simdjson::MEMALLOC:
      return {Code::kInternal, "out of memory while parsing JSON", ""};
    default:
      break;
  }
  Scan scan({});
  nlohmann::json::sax_parse(bytes, &scan);
  std::string message = "not JSON: ";
  if (scan.error_position == 0) {  // the two parsers differ: long integers, half surrogates
    message += simdjson::error_message(error);
  } else if (scan.error_position > bytes.size()) {
    message += "it ends too early, after " + std::to_string(bytes.size()) + " bytes";
  } else {
    message = "not JSON from byte " + std::to_string(scan.error_position - 1) + " on";
  }
  return {Code::kInvalidJson, std::move(message), "write one CloudEvents 1.0 object as JSON"};
}

}  // namespace

// ---- Values -------------------------------------------------------------------------------------

JsonType JsonValue::type() const {
  switch (ElementOf(*this).type()) {
    case element_type::ARRAY:
      return JsonType::kArray;
    case element_type::OBJECT:
      return JsonType::kObject;
    case element_type::INT64:
    case element_type::UINT64:
      return JsonType::kInteger;
    case element_type::DOUBLE:
      return JsonType::kReal;
    case element_type::STRING:
      return JsonType::kString;
    case element_type::BOOL:
      return JsonType::kBool;
    case element_type::NULL_VALUE:
      break;
  }
  return JsonType::kNull;
}

Result<JsonValue> ParseJson(std::string_view bytes, size_t depth) {
  thread_local simdjson::dom::parser parser;
  // simdjson's limit is the first depth that it refuses.
  const size_t max_depth = std::clamp<size_t>(depth, 3, 1024) + 1;
  if (parser.capacity() < bytes.size() || parser.max_depth() != max_depth) {
    // In powers of two, so that lines of growing length allocate rarely.
    const size_t capacity = std::max<size_t>(std::bit_ceil(bytes.size()), 4096);
    if (parser.allocate(capacity, max_depth) != simdjson::SUCCESS ||
        parser.doc.allocate(capacity) != simdjson::SUCCESS) {
      return Error{Code::kInternal, "out of memory while parsing JSON", ""};
    }
  }
  element root;
  const simdjson::error_code error = parser.parse(bytes.data(), bytes.size()).get(root);
  if (error != simdjson::SUCCESS) return DescribeFault(bytes, error, max_depth - 1);
  return ValueOf(root);
}

std::vector<std::optional<std::string>> PeekStrings(std::string_view bytes,
                                                    std::span<const std::string_view> names) {
  Scan scan(names);
  nlohmann::json::sax_parse(bytes, &scan);
  return std::move(scan.found);
}

std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 60;
  std::string quoted(Utf8Prefix(text, kLongest));
  for (char& c : quoted) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (quoted.size() < text.size()) quoted += "...";
  return quoted;
}

bool HasControl(std::string_view utf8) {
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    // U+0080..U+009F are C2 80..C2 9F.
    if (byte == 0xc2 && i + 1 < utf8.size() && static_cast<unsigned char>(utf8[i + 1]) < 0xa0) {
      return true;
    }
  }
  return false;
}

std::string Place::Path() const {
  return parent == nullptr ? Quoted(key) : parent->Path() + "." + Quoted(key);
}

// ---- The reader ---------------------------------------------------------------------------------

void JsonReader::Fail(Code code, std::string message, std::string remedy) {
  if (!error_) error_ = Error{code, std::move(message), std::move(remedy)};
}

void JsonReader::FailAt(const Place& place, std::string_view what, std::string remedy) {
  Fail(Code::kInvalidEvent, place.Path() + ": " + std::string(what), std::move(remedy));
}

void JsonReader::FailType(const Place& place, std::string_view wanted, std::string remedy) {
  FailAt(place,
         "expected " + std::string(wanted) + ", found " + std::string(Describe(place.value.type())),
         std::move(remedy));
}

void JsonReader::FailSize(const Place& place, size_t size, std::string_view unit, Limit limit) {
  Fail(Code::kTooLarge,
       place.Path() + ": " + std::to_string(size) + " " + std::string(unit) +
           " are over the limit of " + std::to_string(limit.most),
       "shorten it, or raise the limit " + std::string(limit.name));
}

void JsonReader::Members(const Place& place, PlaceFunction read) {
  simdjson::dom::object object;
  if (ElementOf(place.value).get(object) != simdjson::SUCCESS) return FailType(place, "an object");
  const Place* const parent = place.key.empty() ? nullptr : &place;
  for (const auto member : object) {
    read({parent, member.key, ValueOf(member.value)});
    if (!ok()) return;
  }
}

void JsonReader::Items(const Place& place, PlaceFunction read) {
  simdjson::dom::array array;
  if (ElementOf(place.value).get(array) != simdjson::SUCCESS) return FailType(place, "an array");
  size_t i = 0;
  for (const element item : array) {
    const std::string index = std::to_string(i++);
    read({&place, index, ValueOf(item)});
    if (!ok()) return;
  }
}

void JsonReader::Object(const Place& place, std::initializer_list<Field> fields, Unknown unknown) {
  uint32_t seen = 0;
  Members(place, [&](const Place& at) {
    const auto* const field = std::find_if(fields.begin(), fields.end(),
                                           [&](const Field& one) { return one.name == at.key; });
    if (field == fields.end()) {
      if (unknown == Unknown::kIgnored) return;
      std::string names;
      for (const Field& one : fields) names += (names.empty() ? "" : ", ") + std::string(one.name);
      return FailAt(at, "unknown field", "known fields: " + names);
    }
    const uint32_t bit = uint32_t{1} << (field - fields.begin());
    if ((seen & bit) != 0) return FailAt(at, "given twice");
    seen |= bit;
    field->read(at);
  });
  if (!ok()) return;
  const Place* const parent = place.key.empty() ? nullptr : &place;
  for (const Field& field : fields) {
    const uint32_t bit = uint32_t{1} << (&field - fields.begin());
    if (field.need == Need::kRequired && (seen & bit) == 0) {
      return FailAt({parent, field.name, {}}, "missing");
    }
  }
}

std::string_view JsonReader::View(const Place& place, Limit limit) {
  std::string_view text;
  if (ElementOf(place.value).get(text) != simdjson::SUCCESS) {
    FailType(place, "a string");
  } else if (text.size() > limit.most) {
    FailSize(place, text.size(), "bytes", limit);
  }
  return text;
}

void JsonReader::Text(const Place& place, Limit limit, std::string& out) {
  const std::string_view text = View(place, limit);
  if (ok()) out.assign(text);
}

void JsonReader::FullText(const Place& place, Limit limit, std::string& out) {
  Text(place, limit, out);
  if (ok() && out.empty()) FailAt(place, "empty");
}

void JsonReader::Id(const Place& place, Limit limit, std::string& out) {
  FullText(place, limit, out);
  if (ok() && HasControl(out)) {
    FailAt(place, "has a control character", "a name must be printable");
  }
}

void JsonReader::Bool(const Place& place, bool& out) {
  if (ElementOf(place.value).get(out) != simdjson::SUCCESS) FailType(place, "a boolean");
}

std::optional<double> JsonReader::NumberIn(const Place& place, double low, double high) {
  double number = 0;
  if (ElementOf(place.value).get(number) != simdjson::SUCCESS) {
    FailType(place, "a number");
    return std::nullopt;
  }
  if (number >= low && number <= high) return number;
  FailAt(place, Digits(number) + " is outside " + Digits(low) + ".." + Digits(high));
  return std::nullopt;
}

namespace {

template <class T>
std::optional<T> IntegerIn(JsonReader& reader, const Place& place, T low, T high) {
  if (place.value.type() != JsonType::kInteger) {
    reader.FailType(place, "an integer");
    return std::nullopt;
  }
  T number = 0;
  const element value = ElementOf(place.value);
  if (value.get(number) == simdjson::SUCCESS && number >= low && number <= high) return number;
  reader.FailAt(place, simdjson::minify(value) + " is outside " + std::to_string(low) + ".." +
                           std::to_string(high));
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> JsonReader::SignedIn(const Place& place, int64_t low, int64_t high) {
  return IntegerIn(*this, place, low, high);
}

std::optional<uint64_t> JsonReader::UnsignedIn(const Place& place, uint64_t low, uint64_t high) {
  return IntegerIn(*this, place, low, high);
}

}  // namespace nudge
