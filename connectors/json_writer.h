// Appends JSON to a string, as fast as a copy allows: fixed order, no tree, deterministic bytes.
//
// The caller writes structure as literals (`json.Raw(R"(,"text":)").Text(text)`), the writer does
// the values. Whatever it is given, what it appends is valid JSON in UTF-8. Values only, any
// thread.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace nudge {

class JsonWriter {
 public:
  // Appends to `out`, which must outlive the writer.
  explicit JsonWriter(std::string& out) : out_(out) {}

  // As it is: punctuation and names.
  JsonWriter& Raw(std::string_view json) {
    out_.append(json);
    return *this;
  }

  // A quoted string on one line for every reader: what LineBreakerAt finds is escaped. Bytes that
  // are not UTF-8 become U+FFFD, one for each ill-formed part.
  JsonWriter& Text(std::string_view text);

  // The shortest digits that read back to the same double; -0 is written as 0. A number that is
  // not finite has no JSON and is written as null.
  JsonWriter& Number(double value);

  template <std::integral T>
  JsonWriter& Integer(T value) {
    if constexpr (std::signed_integral<T>) {
      if (value < 0) return Negative(static_cast<int64_t>(value));
    }
    return Unsigned(static_cast<uint64_t>(value));
  }

  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }

 private:
  JsonWriter& Unsigned(uint64_t value);
  JsonWriter& Negative(int64_t value);
  void Escaped(std::string_view utf8);

  std::string& out_;
};

// The size in bytes of the control character (C0, DEL, C1 with U+0085), U+2028 or U+2029 that
// begins at `at`: readers split lines at some of them. 0: another character.
size_t LineBreakerAt(std::string_view utf8, size_t at);

// True if all of `bytes` is UTF-8: no overlong forms, no surrogates, nothing cut short.
bool IsUtf8(std::string_view bytes);

// `bytes` with each ill-formed part (a maximal subpart, as Unicode 15 section 3.9 has it) replaced.
std::string ReplaceInvalidUtf8(std::string_view bytes, std::string_view replacement);

// The position of the first byte that is not UTF-8; bytes.size() if there is none.
size_t FirstInvalidUtf8(std::string_view bytes);

// At most `limit_bytes` of the front of `utf8`, never ending inside a character.
std::string_view Utf8Prefix(std::string_view utf8, size_t limit_bytes);

}  // namespace nudge
