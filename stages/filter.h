// A condition on documents' metadata: Filter, Metadata -> [Matches] -> yes or no.
//
// A condition on a field that a document lacks, or that has a value of another type there, does not
// hold; so `not` of it does. Of a list one item that equals is enough. Ranges compare numbers, and
// texts that are times (RFC 3339) by the instant that they name; a text that is no time is in no
// range.
//
// Pure functions, any thread. Depth and size are bounded where a filter is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "stages/metadata.h"
#include "stages/state.h"

namespace nudge {

using FilterValue = std::variant<std::string, double, bool>;

struct Filter {
  enum class Kind : uint8_t {
    kEqual,
    kIn,  // any of the values
    kGreater,
    kGreaterOrEqual,
    kLess,
    kLessOrEqual,
    kAnd,  // all of the parts
    kOr,   // any of the parts
    kNot,  // of the one part
  };
  Kind kind = Kind::kAnd;
  std::string field;                // of a comparison
  std::vector<FilterValue> values;  // of a comparison: one, but for kIn
  std::vector<Filter> parts;        // of and, or, not
  friend bool operator==(const Filter&, const Filter&) = default;
};

bool Matches(const Filter& filter, const Metadata& metadata);

// Different filters have different bytes.
void WriteFilter(const Filter& filter, ByteWriter& writer);

// Nanoseconds by which an instant is after 1970-01-01T00:00:00Z.
struct Instant {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  friend auto operator<=>(const Instant&, const Instant&) = default;
};

// RFC 3339's date-time (2024-02-29T12:00:00.5+01:00), with upper or lower case T and Z, or its
// full-date (2024-02-29), which is the first instant of that day in UTC. Digits behind the ninth of
// a fraction are cut off; second 60 is the first of the next minute. Nothing: another text.
std::optional<Instant> InstantOf(std::string_view text);

}  // namespace nudge
