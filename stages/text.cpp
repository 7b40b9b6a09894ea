#include "stages/text.h"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "stages/result.h"

namespace nudge {
namespace {

using BreakFactory = icu::BreakIterator* (*)(const icu::Locale&, UErrorCode&);

// One of ICU's segmenters, over UTF-8. Not shared between threads.
class Segmenter {
 public:
  explicit Segmenter(BreakFactory factory) {
    UErrorCode status = U_ZERO_ERROR;
    iterator_.reset(factory(icu::Locale::getRoot(), status));
    ENSURE(U_SUCCESS(status) && iterator_);
  }

  ~Segmenter() { utext_close(&text_); }
  Segmenter(const Segmenter&) = delete;
  Segmenter& operator=(const Segmenter&) = delete;

  // visit(begin, end, rule status) for every segment, in bytes.
  template <class Visit>
  void ForEach(std::string_view text, Visit visit) {
    UErrorCode status = U_ZERO_ERROR;
    utext_openUTF8(&text_, text.data(), static_cast<int64_t>(text.size()), &status);
    iterator_->setText(&text_, status);
    ENSURE(U_SUCCESS(status));
    size_t begin = 0;
    for (int32_t end = iterator_->next(); end != icu::BreakIterator::DONE;
         end = iterator_->next()) {
      visit(begin, static_cast<size_t>(end), iterator_->getRuleStatus());
      begin = static_cast<size_t>(end);
    }
  }

 private:
  UText text_ = UTEXT_INITIALIZER;
  std::unique_ptr<icu::BreakIterator> iterator_;
};

const icu::Normalizer2& NfcNormaliser() {
  static const icu::Normalizer2* const normaliser = [] {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* instance = icu::Normalizer2::getNFCInstance(status);
    ENSURE(U_SUCCESS(status));
    return instance;
  }();
  return *normaliser;
}

const icu::Normalizer2& KeyNormaliser() {
  static const icu::Normalizer2* const normaliser = [] {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* instance = icu::Normalizer2::getNFKCCasefoldInstance(status);
    ENSURE(U_SUCCESS(status));
    return instance;
  }();
  return *normaliser;
}

std::string Normalised(const icu::Normalizer2& normaliser, std::string_view text) {
  std::string result;
  result.reserve(text.size());
  icu::StringByteSink<std::string> sink(&result);
  UErrorCode status = U_ZERO_ERROR;
  normaliser.normalizeUTF8(0, {text.data(), static_cast<int32_t>(text.size())}, sink, nullptr,
                           status);
  ENSURE(U_SUCCESS(status));
  return result;
}

bool IsAscii(std::string_view text) {
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

// Printable ASCII in one line, no space at either end or beside another: clean in every layout.
bool IsCleanLine(std::string_view text) {
  char before = ' ';
  for (const char c : text) {
    if (c < ' ' || c > '~' || (c == ' ' && before == ' ')) return false;
    before = c;
  }
  return before != ' ' || text.empty();
}

char LowerAscii(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// NFKC_Casefold.
std::string Folded(std::string_view text) {
  if (!IsAscii(text)) return Normalised(KeyNormaliser(), text);
  std::string folded(text);
  for (char& c : folded) c = LowerAscii(c);
  return folded;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"  // inside ICU's macros
// The character at `i`, which moves behind it; U+FFFD for bytes that are none.
UChar32 NextCharacter(std::string_view text, size_t& i) {
  UChar32 c;
  U8_NEXT_OR_FFFD(text.data(), i, text.size(), c);
  return c;
}

// The character that ends at `i`, which moves to its begin.
UChar32 PreviousCharacter(std::string_view text, int32_t& i) {
  UChar32 c;
  U8_PREV_OR_FFFD(text.data(), 0, i, c);
  return c;
}
#pragma GCC diagnostic pop

enum class Glyph : uint8_t { kShown, kBlank, kNewline, kParagraph, kDropped };

Glyph GlyphOf(UChar32 c) {
  if (c > ' ' && c < 0x7F) return Glyph::kShown;
  switch (c) {
    case ' ':
    case '\t':
      return Glyph::kBlank;
    case '\n':
    case '\v':
    case '\f':
    case '\r':
    case 0x85:
    case 0x2028:
      return Glyph::kNewline;
    case 0x2029:
      return Glyph::kParagraph;
    case 0x200C:  // the joiners
    case 0x200D:
      return Glyph::kShown;
    default:
      break;
  }
  switch (u_charType(c)) {
    case U_CONTROL_CHAR:
      return Glyph::kDropped;
    case U_FORMAT_CHAR:
      return u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT) ? Glyph::kDropped
                                                                        : Glyph::kShown;
    case U_SPACE_SEPARATOR:
      return Glyph::kBlank;
    default:
      return Glyph::kShown;
  }
}

void AppendCharacter(std::string& text, UChar32 c) {
  std::array<char, U8_MAX_LENGTH> bytes;
  size_t length = 0;
  U8_APPEND_UNSAFE(bytes.data(), length, c);
  text.append(bytes.data(), length);
}

// White space between two shown characters, held back until the second one comes.
class Gap {
 public:
  explicit Gap(Layout layout) : layout_(layout) {}

  void AddBlank(UChar32 c) {
    any_ = true;
    if (layout_ == Layout::kKept) AppendCharacter(blanks_, c);
  }
  void AddNewlines(size_t count) {
    any_ = true;
    newlines_ += count;
    blanks_.clear();
  }
  void FlushTo(std::string& text) {
    if (!any_) return;
    if (!text.empty()) {
      if (layout_ == Layout::kKept) {
        text.append(newlines_, '\n').append(blanks_);
      } else if (layout_ == Layout::kLine || newlines_ == 0) {
        text.push_back(' ');
      } else {
        text.append(std::min<size_t>(newlines_, 2), '\n');
      }
    }
    any_ = false;
    newlines_ = 0;
    blanks_.clear();
  }

 private:
  Layout layout_;
  bool any_ = false;
  size_t newlines_ = 0;
  std::string blanks_;  // behind the last newline; kKept only
};

// ICU's word rules on folded ASCII, where they need no table: letters (to ICU @ is one, for the
// sake of mail addresses) and digits join, as do underscores with either; ' . hold two letters
// together, ' . , ; two digits.
void AppendAsciiWords(std::string_view text, std::vector<std::string>& words) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '@'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto joins = [&](char c) { return is_letter(c) || is_digit(c) || c == '_'; };
  size_t i = 0;
  while (i < text.size()) {
    if (!joins(text[i])) {
      ++i;
      continue;
    }
    const size_t begin = i++;
    while (i < text.size()) {
      const char c = text[i];
      if (joins(c)) {
        ++i;
        continue;
      }
      if (i + 1 == text.size()) break;
      const char before = text[i - 1];
      const char after = text[i + 1];
      const bool holds_letters = (c == '\'' || c == '.') && is_letter(before) && is_letter(after);
      const bool holds_digits =
          (c == '\'' || c == '.' || c == ',' || c == ';') && is_digit(before) && is_digit(after);
      if (!holds_letters && !holds_digits) break;
      i += 2;
    }
    if (i - begin > 1 || text[begin] != '_') words.emplace_back(text.substr(begin, i - begin));
  }
}

bool EndsSentence(UChar32 c) {
  return u_hasBinaryProperty(c, UCHAR_TERMINAL_PUNCTUATION);
}

}  // namespace

std::string Nfc(std::string_view text) {
  return IsAscii(text) ? std::string(text) : Normalised(NfcNormaliser(), text);
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0U) != 0x80U; }));
}

std::string CleanText(std::string text, Layout layout) {
  if (IsCleanLine(text)) return text;
  std::string clean;
  clean.reserve(text.size());
  Gap gap(layout);
  UChar32 before = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const UChar32 c = NextCharacter(text, i);
    switch (GlyphOf(c)) {
      case Glyph::kBlank:
        gap.AddBlank(c);
        break;
      case Glyph::kNewline:
        if (c != '\n' || before != '\r') gap.AddNewlines(1);
        break;
      case Glyph::kParagraph:
        gap.AddNewlines(2);
        break;
      case Glyph::kDropped:
        break;
      case Glyph::kShown:
        gap.FlushTo(clean);
        if (c == 0xFFFD) {
          AppendCharacter(clean, c);
        } else {
          while (i < text.size() && text[i] > ' ' && text[i] < 0x7F) ++i;  // the rest of a word
          clean.append(text, begin, i - begin);
        }
        break;
    }
    before = c;
  }
  // After the drops, since what they parted may compose.
  if (IsAscii(clean)) return clean;
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece piece(clean.data(), static_cast<int32_t>(clean.size()));
  const bool normal = NfcNormaliser().isNormalizedUTF8(piece, status);
  ENSURE(U_SUCCESS(status));
  return normal ? clean : Normalised(NfcNormaliser(), clean);
}

std::vector<std::string_view> Sentences(std::string_view text) {
  thread_local Segmenter segmenter(icu::BreakIterator::createSentenceInstance);
  std::vector<std::string_view> sentences;
  std::string soft;
  size_t paragraph = 0;
  while (paragraph < text.size()) {
    const size_t blank_line = text.find("\n\n", paragraph);
    size_t end = std::min(text.size(), blank_line);
    end = std::min(text.size(), text.find_first_not_of('\n', end));
    soft.assign(text, paragraph, end - paragraph);
    std::replace(soft.begin(), soft.end(), '\n', ' ');
    segmenter.ForEach(soft, [&](size_t from, size_t to, int32_t) {
      sentences.push_back(text.substr(paragraph + from, to - from));
    });
    paragraph = end;
  }
  return sentences;
}

std::vector<std::string_view> WrappablePieces(std::string_view text) {
  thread_local Segmenter segmenter(icu::BreakIterator::createLineInstance);
  std::vector<std::string_view> pieces;
  segmenter.ForEach(text, [&](size_t from, size_t to, int32_t) {
    pieces.push_back(text.substr(from, to - from));
  });
  return pieces;
}

std::vector<std::string> Words(std::string_view text) {
  const std::string folded = Folded(text);
  std::vector<std::string> words;
  words.reserve(folded.size() / 5 + 1);
  if (IsAscii(folded)) {
    AppendAsciiWords(folded, words);
    return words;
  }
  thread_local Segmenter segmenter(icu::BreakIterator::createWordInstance);
  segmenter.ForEach(folded, [&](size_t from, size_t to, int32_t status) {
    if (status >= UBRK_WORD_NONE_LIMIT) words.push_back(folded.substr(from, to - from));
  });
  return words;
}

std::string NormalisedKey(std::string_view text) {
  std::string key = CleanText(Folded(text), Layout::kLine);
  auto end = static_cast<int32_t>(key.size());
  while (end > 0) {
    int32_t i = end;
    const UChar32 c = PreviousCharacter(key, i);
    if (c != ' ' && !EndsSentence(c)) break;
    end = i;
  }
  if (end > 0) key.resize(static_cast<size_t>(end));
  return key;
}

}  // namespace nudge
