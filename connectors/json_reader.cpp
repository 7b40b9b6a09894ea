#include "connectors/json_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "connectors/json_faults.h"
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

std::string WholeDigits(double value) {
  char digits[64];
  const auto [end, error] =
      std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed, 0);
  ENSURE(error == std::errc());
  return {digits, end};
}

// Whole numbers without an exponent, as their sender wrote them.
std::string Plain(double value) {
  constexpr double kLongest = 1e30;
  if (std::abs(value) == std::numeric_limits<double>::max()) {
    return std::string(value < 0 ? "a number below -" : "a number over ") + "1.79e308";
  }
  if (value != std::trunc(value) || std::abs(value) >= kLongest) return Digits(value);
  return WholeDigits(value);
}

// Walks JSON as far as it is JSON, without recursion. simdjson does not say where it stopped; this
// does, and picks up names at the top level on its way.
class Scan : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Scan(std::span<const std::string_view> names)
      : found(names.size()), names_(names), missing_(names.size()) {}

  size_t error_position = 0;  // bytes read when it stopped, counted from 1; 0: all is JSON
  std::vector<std::optional<std::string>> found;

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t value) override { return Name(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Name(std::to_string(value)); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool string(string_t& value) override { return Name(std::move(value)); }
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
  bool Name(std::string value) {
    if (depth_ != 1 || !wanted_) return true;
    if (!found[*wanted_]) {
      found[*wanted_] = std::move(value);
      --missing_;
    }
    wanted_.reset();
    return missing_ > 0;
  }
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

constexpr std::string_view kOneObject = "write one CloudEvents 1.0 object as JSON";

Error DescribeFault(std::string_view bytes, simdjson::error_code error, size_t depth) {
  switch (error) {
    case simdjson::UTF8_ERROR:
      return {Code::kInvalidUtf8, "not UTF-8 at byte " + std::to_string(FirstInvalidUtf8(bytes)),
              "encode it in UTF-8"};
    case simdjson::DEPTH_ERROR:
      return {Code::kTooLarge, "JSON is nested deeper than " + std::to_string(depth),
              "flatten it, or raise limits.json_depth"};
    case simdjson::EMPTY:
      return {Code::kInvalidJson, "empty: no JSON", std::string(kOneObject)};
    case simdjson::MEMALLOC:
      return {Code::kInternal, "out of memory while parsing JSON", ""};
    default:
      break;
  }
  Scan scan({});
  nlohmann::json::sax_parse(bytes, &scan);
  std::string message = "not JSON: ";
  if (scan.error_position == 0) {  // the two parsers differ
    message += simdjson::error_message(error);
  } else if (scan.error_position > bytes.size()) {
    message += "it ends too early, after " + std::to_string(bytes.size()) + " bytes";
  } else {
    message = "not JSON from byte " + std::to_string(scan.error_position - 1) + " on";
  }
  return {Code::kInvalidJson, std::move(message), std::string(kOneObject)};
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

namespace {

// What is parsed lives until the thread's next call.
simdjson::error_code Parse(std::string_view bytes, size_t max_depth, element& root) {
  thread_local simdjson::dom::parser parser;
  if (parser.capacity() < bytes.size() || parser.max_depth() != max_depth) {
    // In powers of two, so that lines of growing length allocate rarely.
    const size_t capacity = std::max<size_t>(std::bit_ceil(bytes.size()), 4096);
    if (parser.allocate(capacity, max_depth) != simdjson::SUCCESS ||
        parser.doc.allocate(capacity) != simdjson::SUCCESS) {
      return simdjson::MEMALLOC;
    }
  }
  return parser.parse(bytes.data(), bytes.size()).get(root);
}

}  // namespace

Result<JsonValue> ParseJson(std::string_view bytes, size_t depth) {
  // simdjson's limit is the first depth that it refuses.
  const size_t max_depth = std::clamp<size_t>(depth, 3, 1024) + 1;
  element root;
  const simdjson::error_code error = Parse(bytes, max_depth, root);
  if (error == simdjson::SUCCESS) return ValueOf(root);
  if (std::optional<Error> foreign = NameForeign(bytes)) return *std::move(foreign);
  if (error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR ||
      error == simdjson::TAPE_ERROR || error == simdjson::UNESCAPED_CHARS ||
      error == simdjson::N_ATOM_ERROR) {
    MendedJson mended = MendJson(bytes);
    // Only where all else is JSON is what was mended the cause.
    if (Parse(mended.bytes, max_depth, root) == simdjson::SUCCESS) {
      if (mended.fault) return *std::move(mended.fault);
      if (mended.has_large_numbers) return ValueOf(root);
    }
  }
  return DescribeFault(bytes, error, max_depth - 1);
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
  for (size_t i = 0; i < quoted.size(); ++i) {
    const size_t size = LineBreakerAt(quoted, i);
    if (size > 0) quoted.replace(i, size, "?");
  }
  if (kLongest < text.size()) quoted += "...";
  return quoted;
}

bool HasControl(std::string_view utf8) {
  for (size_t i = 0; i < utf8.size(); ++i) {
    const size_t size = LineBreakerAt(utf8, i);
    if (size == 1 || size == 2) return true;
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

namespace {

// How to write a value of the wrong type.
std::string RemedyFor(const Place& place, std::string_view wanted) {
  const JsonType found = place.value.type();
  if (found == JsonType::kNull) return "give " + std::string(wanted) + ", or leave it out";
  const bool is_scalar = found != JsonType::kArray && found != JsonType::kObject;
  if (wanted == "a string") {
    if (!is_scalar) return "write one text";
    return "write it as a text: \"" + Quoted(simdjson::minify(ElementOf(place.value))) + "\"";
  }
  if (found == JsonType::kString) {
    std::string_view text;
    if (ElementOf(place.value).get(text) == simdjson::SUCCESS && LooksLikeJson(text)) {
      return "it is a text that holds JSON: send the object itself, not serialised a second time";
    }
  }
  return "write " + std::string(wanted) +
         (found == JsonType::kString ? ", without quotation marks" : "");
}

}  // namespace

bool LooksLikeJson(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin != text.npos && (text[begin] == '{' || text[begin] == '[');
}

void JsonReader::FailType(const Place& place, std::string_view wanted, std::string remedy) {
  FailAt(place,
         "expected " + std::string(wanted) + ", found " + std::string(Describe(place.value.type())),
         remedy.empty() ? RemedyFor(place, wanted) : std::move(remedy));
}

void JsonReader::FailSize(const Place& place, size_t size, std::string_view unit, Limit limit) {
  Fail(Code::kTooLarge,
       place.Path() + ": " + std::to_string(size) + " " + std::string(unit) +
           " are over the limit of " + std::to_string(limit.most),
       "shorten it, or raise " + std::string(limit.name));
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
    if ((seen & bit) != 0) return FailAt(at, "given twice", "give it once");
    seen |= bit;
    if (field->need == Need::kNullable && at.value.type() == JsonType::kNull) return;
    field->read(at);
  });
  if (!ok()) return;
  const Place* const parent = place.key.empty() ? nullptr : &place;
  for (const Field& field : fields) {
    const uint32_t bit = uint32_t{1} << (&field - fields.begin());
    if (field.need == Need::kRequired && (seen & bit) == 0) {
      return FailAt({parent, field.name, {}}, "missing", "add it");
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
  if (ok() && out.empty()) FailAt(place, "empty", "give a text, or leave it out if it may be");
}

void JsonReader::Id(const Place& place, Limit limit, std::string& out) {
  if (place.value.type() == JsonType::kInteger) {
    out = simdjson::minify(ElementOf(place.value));
    if (out.size() > limit.most) FailSize(place, out.size(), "bytes", limit);
    return;
  }
  FullText(place, limit, out);
  if (ok() && HasControl(out)) {
    FailAt(place, "has a control character", "a name must be printable");
  }
}

void JsonReader::Word(const Place& place, Limit limit, std::string& out) {
  const element value = ElementOf(place.value);
  double number = 0;
  constexpr double kMostDigits = 1e15;  // every double below is told by its shortest digits
  switch (place.value.type()) {
    case JsonType::kInteger:
    case JsonType::kBool:
      out = simdjson::minify(value);
      break;
    case JsonType::kReal:
      if (value.get(number) != simdjson::SUCCESS || std::abs(number) >= kMostDigits) {
        return FailType(place, "a string", "write it as a text, digit by digit");
      }
      out = Digits(number);
      break;
    default:
      return Text(place, limit, out);
  }
  if (out.size() > limit.most) FailSize(place, out.size(), "bytes", limit);
}

void JsonReader::Bool(const Place& place, bool& out) {
  if (ElementOf(place.value).get(out) != simdjson::SUCCESS) FailType(place, "a boolean");
}

std::optional<double> JsonReader::NumberIn(const Place& place, double low, double high,
                                           std::string remedy) {
  double number = 0;
  if (ElementOf(place.value).get(number) != simdjson::SUCCESS) {
    FailType(place, "a number");
    return std::nullopt;
  }
  if (number >= low && number <= high) return number;
  const std::string range = Digits(low) + ".." + Digits(high);
  FailAt(place, Plain(number) + " is outside " + range,
         remedy.empty() ? "give a number in " + range : std::move(remedy));
  return std::nullopt;
}

namespace {

// A number that is written with a fraction or an exponent, as an integer: exactly, or with its
// fraction cut off. Nothing: it is none.
template <class T>
std::optional<T> WholeOf(double number, bool cut) {
  constexpr double kExact = 9007199254740992;  // 2^53: beyond it digits may be lost
  if (cut) number = std::trunc(number);
  if (number != std::trunc(number) || std::abs(number) > kExact) return std::nullopt;
  if (std::unsigned_integral<T> && number < 0) return std::nullopt;
  return static_cast<T>(number);
}

template <class T>
std::optional<T> IntegerIn(JsonReader& reader, const Place& place, T low, T high, bool cut) {
  const element value = ElementOf(place.value);
  const std::string range = std::to_string(low) + ".." + std::to_string(high);
  double real = 0;
  if (place.value.type() == JsonType::kReal && value.get(real) == simdjson::SUCCESS) {
    const std::optional<T> whole = WholeOf<T>(real, cut);
    if (whole && *whole >= low && *whole <= high) return whole;
    const long double exact = cut ? std::trunc(real) : real;
    if (exact < static_cast<long double>(low) || exact > static_cast<long double>(high)) {
      reader.FailAt(place, Plain(real) + " is outside " + range, "give an integer in " + range);
      return std::nullopt;
    }
  }
  if (place.value.type() != JsonType::kInteger) {
    const bool fraction = place.value.type() == JsonType::kReal;
    reader.FailType(place, "an integer", fraction ? "round it to a whole number" : "");
    return std::nullopt;
  }
  T number = 0;
  if (value.get(number) == simdjson::SUCCESS && number >= low && number <= high) return number;
  reader.FailAt(place, simdjson::minify(value) + " is outside " + range,
                "give an integer in " + range);
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> JsonReader::SignedIn(const Place& place, int64_t low, int64_t high) {
  return IntegerIn(*this, place, low, high, false);
}

std::optional<uint64_t> JsonReader::UnsignedIn(const Place& place, uint64_t low, uint64_t high,
                                               bool cut) {
  return IntegerIn(*this, place, low, high, cut);
}

}  // namespace nudge
