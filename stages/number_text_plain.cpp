// In place of number_text.cpp in a browser, whose library has no to_chars for a double: the fewest
// digits that mean this number. For sentences alone.
#include <cstdio>
#include <cstdlib>

#include "stages/options.h"

namespace nudge::keys {

std::string ToText(double number) {
  char buffer[32];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(buffer, sizeof(buffer), "%.*g", digits, number);
    if (std::strtod(buffer, nullptr) == number) break;
  }
  return buffer;
}

}  // namespace nudge::keys
