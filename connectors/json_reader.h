// Reads JSON into variables, field by field, and says what is wrong by its path. The libraries that
// parse (simdjson; nlohmann's to find the place of a fault) stay in the .cpp.
//
//   bytes -> [ParseJson] -> JsonValue -> [JsonReader] -> the caller's variables | Error
//
// Each thread has one parser: what ParseJson returns lives until the thread's next call.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stages/result.h"

namespace nudge {

enum class JsonType : uint8_t { kArray, kObject, kInteger, kReal, kString, kBool, kNull };

// A value inside the thread's parsed JSON; a handle, freely copied.
struct JsonValue {
  const void* document = nullptr;
  size_t index = 0;

  JsonType type() const;
};

// kInvalidJson with the place of the fault, kInvalidUtf8, kTooLarge if objects and arrays that hold
// something are nested deeper than `depth` (3..1024). An integer beyond 64 bits is a kReal, and a
// number beyond a double the largest one: no fault of those that do not read it.
Result<JsonValue> ParseJson(std::string_view bytes, size_t depth);

// The strings of these names at the top level of an object, as far as the bytes are JSON, and
// integers as their decimal text; the first of each name counts. For input that was refused.
std::vector<std::optional<std::string>> PeekStrings(std::string_view bytes,
                                                    std::span<const std::string_view> names);

// For messages: at most 60 bytes on one line, without control characters.
std::string Quoted(std::string_view text);

// C0, DEL or C1.
bool HasControl(std::string_view utf8);

// Whether an object or an array seems to be inside of the text.
bool LooksLikeJson(std::string_view text);

// A limit as its user knows it.
struct Limit {
  std::string_view name;
  size_t most;
};

inline constexpr Limit kNoLimit{"", std::numeric_limits<size_t>::max()};

// A value and where it stands; the path is only built for messages.
struct Place {
  const Place* parent;   // nullptr: the path begins here
  std::string_view key;  // empty: the root
  JsonValue value;

  std::string Path() const;
};

// A callable by reference: it must outlive its use, as a lambda in a call's arguments does.
class PlaceFunction {
 public:
  template <class Call>
  requires(!std::same_as<Call, PlaceFunction>) PlaceFunction(const Call& call)  // NOLINT
      : callable_(&call), call_([](const void* callable, const Place& place) {
          (*static_cast<const Call*>(callable))(place);
        }) {}

  void operator()(const Place& place) const { call_(callable_, place); }

 private:
  const void* callable_;
  void (*call_)(const void*, const Place&);
};

// A kNullable member may be left out, and null says that it is.
enum class Need : uint8_t { kRequired, kOptional, kNullable };
enum class Unknown : uint8_t { kRefused, kIgnored };

// A member that an object may have, and what reads it.
struct Field {
  std::string_view name;
  Need need;
  PlaceFunction read;
};

// Keeps the first thing that is wrong; what is read after it is unspecified, so the caller may look
// once, at the end.
class JsonReader {
 public:
  bool ok() const { return !error_; }
  Error TakeError() { return *std::move(error_); }

  void Fail(Code code, std::string message, std::string remedy = {});
  void FailAt(const Place& place, std::string_view what, std::string remedy = {});
  void FailType(const Place& place, std::string_view wanted, std::string remedy = {});
  void FailSize(const Place& place, size_t size, std::string_view unit, Limit limit);

  // Reads each member of the object by the field of its name (at most 32 fields): kInvalidEvent for
  // a member that is unknown or given twice, or a required one that is missing.
  void Object(const Place& place, std::initializer_list<Field> fields,
              Unknown unknown = Unknown::kRefused);

  // Every member of an object, every item of an array, until something fails.
  void Members(const Place& place, PlaceFunction read);
  void Items(const Place& place, PlaceFunction read);

  // A string of at most `limit`; empty is allowed. The view lives as long as the JSON.
  std::string_view View(const Place& place, Limit limit);
  void Text(const Place& place, Limit limit, std::string& out);

  // The same, and not empty.
  void FullText(const Place& place, Limit limit, std::string& out);

  // A name: not empty, no control characters. An integer is a name too: its decimal text.
  void Id(const Place& place, Limit limit, std::string& out);

  // A text, or a number or boolean as its text.
  void Word(const Place& place, Limit limit, std::string& out);

  void Bool(const Place& place, bool& out);

  // A number in [low, high]; an integer in JSON will do.
  template <class Out>
  void Number(const Place& place, double low, double high, Out& out, std::string remedy = {}) {
    const std::optional<double> number = NumberIn(place, low, high, std::move(remedy));
    if (number) out = *number;
  }

  // An integer in [low, high]: 3 and 3.0 are one, 3.5 is not.
  template <std::integral T, class Out>
  void Integer(const Place& place, T low, T high, Out& out) {
    if constexpr (std::signed_integral<T>) {
      if (const auto number = SignedIn(place, low, high)) out = static_cast<T>(*number);
    } else {
      if (const auto number = UnsignedIn(place, low, high, false)) out = static_cast<T>(*number);
    }
  }

  // The same, of a measurement: its fraction is cut off.
  template <std::unsigned_integral T, class Out>
  void WholePart(const Place& place, T low, T high, Out& out) {
    if (const auto number = UnsignedIn(place, low, high, true)) out = static_cast<T>(*number);
  }

 private:
  std::optional<double> NumberIn(const Place& place, double low, double high, std::string remedy);
  std::optional<int64_t> SignedIn(const Place& place, int64_t low, int64_t high);
  std::optional<uint64_t> UnsignedIn(const Place& place, uint64_t low, uint64_t high, bool cut);

  std::optional<Error> error_;
};

}  // namespace nudge
