// Characters of UTF-8 by ICU's macros, for the files behind text.h. Any thread.
#pragma once

#include <unicode/utf8.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nudge {

inline bool IsAscii(std::string_view text) {
  uint64_t high_bits = 0;
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, text.data() + i, 8);
    high_bits |= eight;
  }
  for (; i < text.size(); ++i) high_bits |= static_cast<uint8_t>(text[i]) & 0x80U;
  return (high_bits & 0x8080808080808080U) == 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"  // inside ICU's macros
// The character at `i`, which moves behind it; U+FFFD for bytes that are none.
inline UChar32 NextCharacter(std::string_view text, size_t& i) {
  UChar32 c;
  U8_NEXT_OR_FFFD(text.data(), i, text.size(), c);
  return c;
}
#pragma GCC diagnostic pop

inline void AppendCharacter(std::string& text, UChar32 c) {
  std::array<char, U8_MAX_LENGTH> bytes;
  size_t length = 0;
  U8_APPEND_UNSAFE(bytes.data(), length, c);
  text.append(bytes.data(), length);
}

}  // namespace nudge
