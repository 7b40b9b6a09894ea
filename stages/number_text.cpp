#include <charconv>
#include <cmath>

#include "stages/options.h"

namespace nudge::keys {

std::string ToText(double number) {
  char buffer[32];
  const bool whole = number == std::trunc(number) && std::abs(number) < 1e15;
  const auto end = whole ? std::to_chars(buffer, buffer + sizeof(buffer), std::llround(number))
                         : std::to_chars(buffer, buffer + sizeof(buffer), number);
  return std::string(buffer, end.ptr);
}

}  // namespace nudge::keys
