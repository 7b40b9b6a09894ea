// What makes a line unreadable though it has the structure of JSON: named, and taken out.
//
//   bytes -> [MendJson] -> MendedJson;   bytes -> [NameForeign] -> Error
//
// For json_reader.cpp and event_head.cpp. Pure functions, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

// The same bytes without what no parser takes; of the same structure where that was sound.
struct MendedJson {
  std::string bytes;
  // The first thing that has no meaning: half of a character, an escape that JSON does not have, a
  // raw control character, NaN. In a text DEL stands in its place, elsewhere null.
  std::optional<Error> fault;
  // Numbers beyond 64 bits are there as doubles; those beyond a double as the largest one.
  bool has_large_numbers = false;
};
MendedJson MendJson(std::string_view bytes);

// What the bytes are, where they are no JSON in UTF-8 but something that is sent in its place:
// UTF-16, UTF-32, gzip, a schema registry's framing.
std::optional<Error> NameForeign(std::string_view bytes);

// Without the byte order marks at the front, which say nothing in UTF-8.
std::string_view WithoutMarks(std::string_view bytes);

// What follows a schema registry's five bytes; empty if there are none.
std::string_view BehindFraming(std::string_view bytes);

}  // namespace nudge
