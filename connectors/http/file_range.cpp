#include "connectors/http/file_range.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace nudge {
namespace {

std::string_view Trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return text.substr(0, text.find_last_not_of(" \t") + 1);
}

// If-None-Match compares weakly: W/ does not count. Our tags have no comma in them.
bool HasIt(std::string_view none_match, std::string_view entity_tag) {
  if (Trimmed(none_match) == "*") return true;
  while (!none_match.empty()) {
    const std::string_view one = none_match.substr(0, none_match.find(','));
    none_match.remove_prefix(std::min(one.size() + 1, none_match.size()));
    std::string_view tag = Trimmed(one);
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag == entity_tag) return true;
  }
  return false;
}

std::optional<uint64_t> NumberIn(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

FileRange RangeOf(const HttpRequest& request, std::string_view entity_tag, uint64_t size_bytes) {
  const FileRange whole{200, 0, size_bytes};
  if (HasIt(request.Header("if-none-match"), entity_tag)) return {304, 0, 0};
  std::string_view range = Trimmed(request.Header("range"));
  constexpr std::string_view kUnit = "bytes=";
  const std::string_view if_range = Trimmed(request.Header("if-range"));
  if (!range.starts_with(kUnit) || (!if_range.empty() && if_range != entity_tag)) return whole;
  range.remove_prefix(kUnit.size());
  const size_t dash = range.find('-');
  if (dash == range.npos || range.find(',') != range.npos) return whole;
  const std::string_view first_text = Trimmed(range.substr(0, dash));
  const std::string_view last_text = Trimmed(range.substr(dash + 1));
  const std::optional<uint64_t> first = NumberIn(first_text);
  const std::optional<uint64_t> last = NumberIn(last_text);
  if (first_text.empty() && last) {  // so many at the end
    if (*last == 0 || size_bytes == 0) return {416, 0, 0};
    return {206, size_bytes - std::min(*last, size_bytes), size_bytes};
  }
  if (!first || (!last && !last_text.empty()) || (last && *last < *first)) return whole;
  if (*first >= size_bytes) return {416, 0, 0};
  return {206, *first, last && *last < size_bytes ? *last + 1 : size_bytes};
}

}  // namespace nudge
