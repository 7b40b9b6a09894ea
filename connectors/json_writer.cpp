#include "connectors/json_writer.h"

#include <simdjson.h>
#include <unicode/utf8.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "stages/result.h"

namespace nudge {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101;
constexpr uint64_t kHighs = 0x8080808080808080;

// The high bit of each byte that is `value`; above one that is, others may be set too.
uint64_t Equal(uint64_t word, unsigned char value) {
  const uint64_t difference = word ^ (kOnes * value);
  return (difference - kOnes) & ~difference;
}

// True if one of 8 bytes may need an escape: below 0x20, '"', '\\', DEL, or the first of a
// character that may (U+0080..U+00BF, U+2000..U+2FFF).
bool MayNeedEscape(uint64_t word) {
  return ((((word - kOnes * 0x20) & ~word) | Equal(word, '"') | Equal(word, '\\') |
           Equal(word, 0x7f) | Equal(word, 0xc2) | Equal(word, 0xe2)) &
          kHighs) != 0;
}

bool MayNeedEscape(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f || byte == 0xc2 || byte == 0xe2;
}

// How many bytes of the front of `text` need no escape and no second look.
size_t PlainLength(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (MayNeedEscape(word)) break;
  }
  while (i < text.size() && !MayNeedEscape(text[i])) ++i;
  return i;
}

// ICU's macro narrows int to uint8_t.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"

// Calls visit(begin, end, valid) for each character or ill-formed part.
template <class Visit>
void ForEachCharacter(std::string_view bytes, Visit visit) {
  const char* data = bytes.data();
  size_t i = 0;
  while (i < bytes.size()) {
    const size_t begin = i;
    int32_t character;
    U8_NEXT(data, i, bytes.size(), character);
    if (!visit(begin, i, character >= 0)) return;
  }
}

#pragma GCC diagnostic pop

}  // namespace

void JsonWriter::Escaped(std::string_view utf8) {
  static constexpr char kDigits[] = "0123456789abcdef";
  while (true) {
    const size_t plain = PlainLength(utf8);
    out_.append(utf8.substr(0, plain));
    if (plain == utf8.size()) return;
    const char c = utf8[plain];
    switch (c) {
      case '"':
        out_.append("\\\"");
        break;
      case '\\':
        out_.append("\\\\");
        break;
      case '\n':
        out_.append("\\n");
        break;
      case '\r':
        out_.append("\\r");
        break;
      case '\t':
        out_.append("\\t");
        break;
      default: {
        const size_t size = LineBreakerAt(utf8, plain);
        if (size == 0) {
          out_.push_back(c);
          break;
        }
        // Of two bytes the last is the code point, of three it is 0x2000 and six bits.
        const auto last = static_cast<unsigned char>(utf8[plain + size - 1]);
        const unsigned low = size == 3 ? 0x28 + (last & 1U) : last;
        out_.append(size == 3 ? "\\u20" : "\\u00");
        out_.push_back(kDigits[low >> 4]);
        out_.push_back(kDigits[low & 15]);
        utf8.remove_prefix(plain + size);
        continue;
      }
    }
    utf8.remove_prefix(plain + 1);
  }
}

JsonWriter& JsonWriter::Text(std::string_view text) {
  out_.push_back('"');
  if (IsUtf8(text)) {
    Escaped(text);
  } else {
    Escaped(ReplaceInvalidUtf8(text, "\xef\xbf\xbd"));
  }
  out_.push_back('"');
  return *this;
}

JsonWriter& JsonWriter::Number(double value) {
  if (!std::isfinite(value)) return Raw("null");
  if (value == 0) value = 0;  // -0 too: JSON readers disagree on its sign
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  ENSURE(error == std::errc());
  return Raw({digits, static_cast<size_t>(end - digits)});
}

JsonWriter& JsonWriter::Unsigned(uint64_t value) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  ENSURE(error == std::errc());
  return Raw({digits, static_cast<size_t>(end - digits)});
}

JsonWriter& JsonWriter::Negative(int64_t value) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  ENSURE(error == std::errc());
  return Raw({digits, static_cast<size_t>(end - digits)});
}

size_t LineBreakerAt(std::string_view utf8, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(utf8[i]); };
  if (byte(at) < 0x20 || byte(at) == 0x7f) return 1;
  if (byte(at) == 0xc2 && at + 1 < utf8.size() && byte(at + 1) < 0xa0) return 2;
  const bool separates = byte(at) == 0xe2 && at + 2 < utf8.size() && byte(at + 1) == 0x80 &&
                         (byte(at + 2) == 0xa8 || byte(at + 2) == 0xa9);
  return separates ? 3 : 0;
}

bool IsUtf8(std::string_view bytes) {
  return bytes.empty() || simdjson::validate_utf8(bytes.data(), bytes.size());
}

std::string ReplaceInvalidUtf8(std::string_view bytes, std::string_view replacement) {
  std::string clean;
  clean.reserve(bytes.size() + 16);
  ForEachCharacter(bytes, [&](size_t begin, size_t end, bool valid) {
    clean.append(valid ? bytes.substr(begin, end - begin) : replacement);
    return true;
  });
  return clean;
}

size_t FirstInvalidUtf8(std::string_view bytes) {
  size_t position = bytes.size();
  ForEachCharacter(bytes, [&](size_t begin, size_t, bool valid) {
    if (!valid) position = begin;
    return valid;
  });
  return position;
}

std::string_view Utf8Prefix(std::string_view utf8, size_t limit_bytes) {
  if (utf8.size() <= limit_bytes) return utf8;
  size_t end = limit_bytes;
  while (end > 0 && (static_cast<unsigned char>(utf8[end]) & 0xc0) == 0x80) --end;
  return utf8.substr(0, end);
}

}  // namespace nudge
