#include "stages/filter.h"

#include <algorithm>
#include <chrono>

namespace nudge {
namespace {

template <class Value>
bool Compares(Filter::Kind kind, const Value& value, const Value& bound) {
  switch (kind) {
    case Filter::Kind::kGreater:
      return value > bound;
    case Filter::Kind::kGreaterOrEqual:
      return value >= bound;
    case Filter::Kind::kLess:
      return value < bound;
    default:
      return value <= bound;
  }
}

bool IsInRange(Filter::Kind kind, const MetadataValue& value, const FilterValue& bound) {
  const auto* number = std::get_if<double>(&value);
  const auto* most = std::get_if<double>(&bound);
  if (number != nullptr && most != nullptr) return Compares(kind, *number, *most);
  const auto* text = std::get_if<std::string>(&value);
  const auto* time = std::get_if<std::string>(&bound);
  if (text == nullptr || time == nullptr) return false;
  const std::optional<Instant> instant = InstantOf(*text);
  const std::optional<Instant> limit = InstantOf(*time);
  return instant && limit && Compares(kind, *instant, *limit);
}

bool Equals(const MetadataValue& value, const FilterValue& wanted) {
  if (const auto* items = std::get_if<std::vector<std::string>>(&value)) {
    const auto* text = std::get_if<std::string>(&wanted);
    return text != nullptr && std::find(items->begin(), items->end(), *text) != items->end();
  }
  const auto same = [&](const auto* one) {
    const auto* other = std::get_if<std::remove_cvref_t<decltype(*one)>>(&wanted);
    return one != nullptr && other != nullptr && *one == *other;
  };
  return same(std::get_if<std::string>(&value)) || same(std::get_if<double>(&value)) ||
         same(std::get_if<bool>(&value));
}

bool Holds(const Filter& filter, const Metadata& metadata) {
  const auto field = metadata.find(filter.field);
  if (field == metadata.end()) return false;
  const bool is_equality = filter.kind == Filter::Kind::kEqual || filter.kind == Filter::Kind::kIn;
  return std::any_of(filter.values.begin(), filter.values.end(), [&](const FilterValue& value) {
    return is_equality ? Equals(field->second, value)
                       : IsInRange(filter.kind, field->second, value);
  });
}

// ---- Times --------------------------------------------------------------------------------------

// Reads a text from its front.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}

  bool failed() const { return failed_; }
  bool done() const { return rest_.empty(); }

  // Exactly so many digits.
  int Digits(size_t count) {
    int number = 0;
    for (size_t i = 0; i < count; ++i) number = number * 10 + Digit();
    return number;
  }
  // One of these characters.
  char Any(std::string_view expected) {
    const char c = rest_.empty() ? '\0' : rest_.front();
    if (rest_.empty() || expected.find(c) == expected.npos) {
      failed_ = true;
      return '\0';
    }
    rest_.remove_prefix(1);
    return c;
  }
  bool Skip(char expected) {
    if (rest_.empty() || rest_.front() != expected) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // One digit or more, as nanoseconds.
  uint32_t Fraction() {
    uint32_t nanoseconds = 0;
    uint32_t unit = 100'000'000;
    size_t digits = 0;
    for (; !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9'; ++digits, unit /= 10) {
      nanoseconds += static_cast<uint32_t>(Digit()) * unit;
    }
    failed_ = failed_ || digits == 0;
    return nanoseconds;
  }

 private:
  int Digit() {
    const char c = Any("0123456789");
    return failed_ ? 0 : c - '0';
  }

  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace

bool Matches(const Filter& filter, const Metadata& metadata) {
  const auto matches = [&](const Filter& part) { return Matches(part, metadata); };
  switch (filter.kind) {
    case Filter::Kind::kAnd:
      return std::all_of(filter.parts.begin(), filter.parts.end(), matches);
    case Filter::Kind::kOr:
      return std::any_of(filter.parts.begin(), filter.parts.end(), matches);
    case Filter::Kind::kNot:
      return std::none_of(filter.parts.begin(), filter.parts.end(), matches);
    default:
      return Holds(filter, metadata);
  }
}

void WriteFilter(const Filter& filter, ByteWriter& writer) {
  writer.U8(static_cast<uint8_t>(filter.kind));
  writer.Text(filter.field);
  writer.U64(filter.values.size());
  for (const FilterValue& value : filter.values) {
    writer.U8(static_cast<uint8_t>(value.index()));
    if (const auto* text = std::get_if<std::string>(&value)) writer.Text(*text);
    if (const auto* number = std::get_if<double>(&value)) writer.F64(*number);
    if (const auto* flag = std::get_if<bool>(&value)) writer.U8(*flag);
  }
  writer.U64(filter.parts.size());
  for (const Filter& part : filter.parts) WriteFilter(part, writer);
}

std::optional<Instant> InstantOf(std::string_view text) {
  using namespace std::chrono;
  Cursor cursor(text);
  const year y{cursor.Digits(4)};
  cursor.Any("-");
  const month m{static_cast<unsigned>(cursor.Digits(2))};
  cursor.Any("-");
  const day d{static_cast<unsigned>(cursor.Digits(2))};
  const year_month_day date{y, m, d};
  if (cursor.failed() || !date.ok()) return std::nullopt;
  const auto midnight = duration_cast<seconds>(sys_days(date).time_since_epoch());
  if (cursor.done()) return Instant{midnight.count(), 0};
  cursor.Any("Tt");
  const int hour = cursor.Digits(2);
  cursor.Any(":");
  const int minute = cursor.Digits(2);
  cursor.Any(":");
  const int second = cursor.Digits(2);
  const uint32_t fraction = cursor.Skip('.') ? cursor.Fraction() : 0;
  if (hour > 23 || minute > 59 || second > 60) return std::nullopt;
  int offset_minutes = 0;
  const char sign = cursor.Any("Zz+-");
  if (sign == '+' || sign == '-') {
    const int hours = cursor.Digits(2);
    cursor.Any(":");
    const int minutes = cursor.Digits(2);
    if (hours > 23 || minutes > 59) return std::nullopt;
    offset_minutes = (sign == '-' ? -1 : 1) * (hours * 60 + minutes);
  }
  if (cursor.failed() || !cursor.done()) return std::nullopt;
  const int64_t of_day = int64_t{hour} * 3600 + (minute - offset_minutes) * 60 + second;
  return Instant{midnight.count() + of_day, fraction};
}

}  // namespace nudge
