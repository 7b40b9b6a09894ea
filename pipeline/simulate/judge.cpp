#include "pipeline/simulate/judge.h"

#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <sstream>
#include <string>

namespace nudge {
namespace {

constexpr std::string_view kKeyPlace = "{key}";

icu::UnicodeString Folded(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
             icu::StringPiece(text.data(), static_cast<int32_t>(text.size())))
      .foldCase();
}

bool IsDigit(const icu::UnicodeString& text, int32_t at) {
  return at >= 0 && at < text.length() && u_isdigit(text.char32At(at)) != 0;
}

// Whether the character at `at` goes on with the word that ends or begins beside it: a letter, a
// digit, or the point of a number.
bool GoesOn(const icu::UnicodeString& text, int32_t at, int32_t beyond, bool beside_digit) {
  if (at < 0 || at >= text.length()) return false;
  const UChar32 character = text.char32At(at);
  if (u_isalnum(character) != 0) return true;
  return beside_digit && (character == '.' || character == ',') && IsDigit(text, beyond);
}

bool HasWords(const icu::UnicodeString& text, const icu::UnicodeString& words) {
  for (int32_t at = text.indexOf(words); at >= 0; at = text.indexOf(words, at + 1)) {
    const int32_t end = at + words.length();
    if (!GoesOn(text, at - 1, at - 2, IsDigit(text, at)) &&
        !GoesOn(text, end, end + 1, IsDigit(text, end - 1))) {
      return true;
    }
  }
  return false;
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

size_t CountWords(std::string_view text) {
  std::istringstream words{std::string(text)};
  size_t count = 0;
  for (std::string word; words >> word;) ++count;
  return count;
}

}  // namespace

bool HasKey(std::string_view answer, const WorldQuestion& question) {
  const icu::UnicodeString folded = Folded(answer);
  for (const std::string& key : question.keys) {
    if (HasWords(folded, Folded(key))) return true;
  }
  return false;
}

bool InForm(std::string_view answer, const WorldForm& form, const WorldQuestion& question) {
  const std::string_view text = Trimmed(answer);
  if (text.empty() || !text.starts_with(form.begins_with) || !text.ends_with(form.ends_with) ||
      text.find(form.contains) == std::string_view::npos) {
    return false;
  }
  if (form.words_most > 0 && CountWords(text) > form.words_most) return false;
  return !form.quotes_key || HasKey(text, question);
}

std::string CorrectionOf(const WorldForm& form, std::string_view key) {
  std::string text = form.correction;
  for (size_t at = text.find(kKeyPlace); at != std::string::npos;
       at = text.find(kKeyPlace, at + key.size())) {
    text.replace(at, kKeyPlace.size(), key);
  }
  return text;
}

}  // namespace nudge
