// Text from a log, a file or a model, on its way to somebody's terminal: bytes -> [Printable] ->
// text that moves no cursor, sets no title and hides nothing. Pure function, any thread.
#pragma once

#include <string>
#include <string_view>

namespace nudge {

// `utf8` with each control character (C0 but newline and tab, DEL, C1) as U+FFFD.
inline std::string Printable(std::string_view utf8) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string out;
  out.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    const auto next = static_cast<unsigned char>(i + 1 < utf8.size() ? utf8[i + 1] : 0);
    const bool c1 = byte == 0xC2 && next >= 0x80 && next <= 0x9F;
    const bool c0 = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
    if (c0 || c1) {
      out += kReplacement;
    } else {
      out += utf8[i];
    }
    if (c1) ++i;
  }
  return out;
}

}  // namespace nudge
