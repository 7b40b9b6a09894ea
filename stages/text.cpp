#include "stages/text.h"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "stages/characters.h"
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

using NormaliserFactory = const icu::Normalizer2* (*)(UErrorCode&);

// ICU owns its normalisers.
template <NormaliserFactory kFactory>
const icu::Normalizer2& Normaliser() {
  static const icu::Normalizer2* const normaliser = [] {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* instance = kFactory(status);
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

char LowerAscii(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// NFKC_Casefold.
std::string CaseFolded(std::string_view text) {
  if (!IsAscii(text))
    return Normalised(Normaliser<icu::Normalizer2::getNFKCCasefoldInstance>(), text);
  std::string folded(text);
  for (char& c : folded) c = LowerAscii(c);
  return folded;
}

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

// Letters that are one character in Unicode and that people type as another or as two.
std::string_view PlainLetters(UChar32 c) {
  switch (c) {
    case 0xE6:
      return "ae";
    case 0x153:
      return "oe";
    case 0xF8:
      return "o";
    case 0xF0:
    case 0x111:
      return "d";
    case 0xFE:
      return "th";
    case 0x127:
      return "h";
    case 0x131:
      return "i";
    case 0x142:
      return "l";
    case 0x167:
      return "t";
    default:
      return {};
  }
}

// Whether a mark over `base` may be left out by who types in haste: accents of Latin, Greek and
// Russian, vowel points of Hebrew and Arabic. A Russian short i, marks in Indic scripts and the
// voicing of Kana make other letters.
bool IsOptionalMark(UChar32 base, UChar32 mark) {
  if (u_charType(mark) != U_NON_SPACING_MARK) return false;
  UErrorCode status = U_ZERO_ERROR;
  switch (uscript_getScript(base, &status)) {
    case USCRIPT_LATIN:
    case USCRIPT_GREEK:
    case USCRIPT_HEBREW:
    case USCRIPT_ARABIC:
      return true;
    case USCRIPT_CYRILLIC:
      return mark == 0x300 || mark == 0x301 || (mark == 0x308 && base == 0x435);
    default:
      return false;
  }
}

// Whether a word can have such marks or letters, by its bytes alone: U+00C0..U+06FF, U+1E00..1FFF.
bool MayHaveMarks(std::string_view word) {
  for (size_t i = 0; i < word.size(); ++i) {
    const auto byte = static_cast<uint8_t>(word[i]);
    if (byte >= 0xC3 && byte <= 0xDB) return true;
    if (byte == 0xE1 && i + 1 < word.size() && static_cast<uint8_t>(word[i + 1]) >= 0xB8)
      return true;
  }
  return false;
}

// What a token meter tells apart. Costs are in quarters of a token.
enum class Kind : uint8_t { kBlank, kSmall, kCapital, kDigit, kLetter, kDense, kSparse, kOther };

struct Weight {
  Kind kind = Kind::kOther;
  uint32_t quarters = 4;
};

Weight WeightOfBroad(UChar32 c) {
  // What NFKC writes out: Arabic phrases in one character, squared words, numbers in brackets.
  if (c >= 0xFDF0 && c <= 0xFDFD) return {Kind::kOther, 40};
  if (c >= 0x3300 && c <= 0x33FF) return {Kind::kOther, 20};
  if ((c >= 0x3200 && c <= 0x32FF) || (c >= 0x2460 && c <= 0x24FF)) return {Kind::kOther, 12};
  if (u_charType(c) == U_NON_SPACING_MARK && u_getIntPropertyValue(c, UCHAR_SCRIPT) < 2) {
    return {Kind::kOther, 4};
  }
  UErrorCode status = U_ZERO_ERROR;
  switch (uscript_getScript(c, &status)) {
    case USCRIPT_LATIN:
    case USCRIPT_GREEK:
    case USCRIPT_CYRILLIC:
    case USCRIPT_ARABIC:
    case USCRIPT_HEBREW:
    case USCRIPT_ARMENIAN:
    case USCRIPT_GEORGIAN:
      return c < 0x10000 ? Weight{Kind::kLetter, 3} : Weight{Kind::kOther, 8};
    case USCRIPT_DEVANAGARI:
    case USCRIPT_BENGALI:
    case USCRIPT_GURMUKHI:
    case USCRIPT_GUJARATI:
    case USCRIPT_TAMIL:
    case USCRIPT_TELUGU:
    case USCRIPT_KANNADA:
    case USCRIPT_MALAYALAM:
    case USCRIPT_SINHALA:
    case USCRIPT_THAI:
      return {Kind::kSparse, 3};
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_HANGUL:
      return {Kind::kDense, 4};
    default:
      return {Kind::kOther, c < 0x10000 ? 4U : 8U};
  }
}

Weight WeightOf(UChar32 c) {
  if (c <= ' ') return {Kind::kBlank, 0};
  if (c >= 'a' && c <= 'z') return {Kind::kSmall, 3};
  if (c >= 'A' && c <= 'Z') return {Kind::kCapital, 3};
  if (c >= '0' && c <= '9') return {Kind::kDigit, 2};
  return c < 0x80 ? Weight{} : WeightOfBroad(c);
}

// Adds up what EstimateTokens says, character by character.
class TokenMeter {
 public:
  explicit TokenMeter(bool behind_space) : before_(behind_space ? Kind::kBlank : Kind::kOther) {}

  void Add(UChar32 c) {
    const Weight weight = WeightOf(c);
    quarters_ += weight.quarters;
    if (Continues(weight.kind)) {
      before_ = weight.kind;
      return;
    }
    // A run begins with a token of its own.
    if (weight.kind != Kind::kBlank && weight.quarters < 4) quarters_ += 4 - weight.quarters;
    // A space before a character that no piece of a vocabulary has together with it is one more.
    const bool is_alone = (weight.kind == Kind::kOther && c >= 0x80) || weight.kind == Kind::kDense;
    if (is_alone && before_ == Kind::kBlank) quarters_ += 4;
    before_ = weight.kind;
  }
  size_t quarters() const { return quarters_; }
  size_t tokens() const { return (quarters_ + 3) / 4; }

 private:
  bool Continues(Kind kind) const {
    if (kind == Kind::kSparse) return before_ == Kind::kSparse;
    const bool in_word = before_ == Kind::kSmall || before_ == Kind::kLetter;
    if (kind == Kind::kSmall) return in_word || before_ == Kind::kCapital;
    if (kind == Kind::kLetter) return in_word || before_ == Kind::kCapital;
    return (kind == Kind::kCapital || kind == Kind::kDigit) && before_ == kind;
  }

  Kind before_;
  size_t quarters_ = 0;
};

// Whether a word changes its case inside: a capital behind a small letter or digit, or before one
// and behind another capital.
bool ChangesCase(std::string_view text) {
  const auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  for (size_t i = 1; i < text.size(); ++i) {
    if (!is_capital(text[i])) continue;
    const auto before = static_cast<uint8_t>(text[i - 1]);
    if (before >= 'a' || (before >= '0' && before <= '9')) return true;
    if (is_capital(text[i - 1]) && i + 1 < text.size() && text[i + 1] >= 'a') return true;
  }
  return false;
}

// The last place in `text` at or before `bytes` that parts no letter from its marks and no emoji;
// `bytes` where that would be its begin.
size_t WholeCharacters(std::string_view text, size_t bytes) {
  thread_local Segmenter segmenter(icu::BreakIterator::createCharacterInstance);
  size_t last = 0;
  segmenter.ForEach(text.substr(0, bytes + 4), [&](size_t, size_t to, int32_t) {
    if (to <= bytes) last = to;
  });
  return last == 0 ? bytes : last;
}

}  // namespace

std::string Nfc(std::string text) {
  if (IsAscii(text)) return text;
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  const icu::Normalizer2& nfc = Normaliser<icu::Normalizer2::getNFCInstance>();
  const bool normal = nfc.isNormalizedUTF8(piece, status);
  ENSURE(U_SUCCESS(status));
  return normal ? text : Normalised(nfc, text);
}

std::string Nfkc(std::string_view text) {
  if (IsAscii(text)) return std::string(text);
  return Normalised(Normaliser<icu::Normalizer2::getNFKCInstance>(), text);
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0U) != 0x80U; }));
}

size_t EstimateQuarterTokens(std::string_view part, bool behind_space) {
  TokenMeter meter(behind_space);
  for (size_t i = 0; i < part.size();) meter.Add(NextCharacter(part, i));
  return meter.quarters();
}

size_t EstimateTokens(std::string_view text) {
  return (EstimateQuarterTokens(text, true) + 3) / 4;
}

size_t BytesThatFit(std::string_view text, size_t chars, size_t tokens) {
  TokenMeter meter(true);
  size_t end = 0;
  for (size_t count = 0; end < text.size() && count < chars; ++count) {
    size_t next = end;
    meter.Add(NextCharacter(text, next));
    if (meter.tokens() > tokens && end > 0) break;
    end = next;
  }
  return end == text.size() ? end : WholeCharacters(text, end);
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
  const std::string folded = CaseFolded(text);
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

std::vector<std::string> CaseParts(std::string_view text) {
  const auto is_capital = [](UChar32 c) { return u_isupper(c) || u_istitle(c); };
  const auto is_small = [](UChar32 c) { return u_islower(c) != 0; };
  std::vector<std::string> parts;
  if (IsAscii(text) && !ChangesCase(text)) return parts;
  for (size_t i = 0; i < text.size();) {
    size_t begin = i;
    const size_t word = i;
    size_t next = i;
    // Three characters in a row decide: aB parts before B, ABc before B too.
    UChar32 before = 0;
    UChar32 now = NextCharacter(text, next);
    if (!u_isalnum(now)) {
      i = next;
      continue;
    }
    while (true) {
      size_t after_next = next;
      const UChar32 after = next < text.size() ? NextCharacter(text, after_next) : 0;
      const bool goes_on = u_isalnum(after) || u_charType(after) == U_NON_SPACING_MARK;
      const bool rises = is_capital(now) && (is_small(before) || u_isdigit(before));
      const bool falls = is_capital(now) && is_capital(before) && is_small(after);
      size_t after_that = after_next;
      const bool plural =
          falls && after == 's' &&  // IDs, of one id
          (after_next == text.size() || !u_isalnum(NextCharacter(text, after_that)));
      if (i > begin && (rises || (falls && !plural))) {
        parts.emplace_back(text.substr(begin, i - begin));
        begin = i;
      } else if (plural) {
        parts.emplace_back(text.substr(begin, next - begin));
        begin = after_next;
      }
      i = next;
      if (!goes_on) break;
      before = now;
      now = after;
      next = after_next;
    }
    if (begin > word && i > begin) parts.emplace_back(text.substr(begin, i - begin));
  }
  return parts;
}

std::string WithoutMarks(std::string_view word) {
  if (!MayHaveMarks(word)) return std::string(word);
  const std::string parted = Normalised(Normaliser<icu::Normalizer2::getNFDInstance>(), word);
  std::string plain;
  UChar32 base = 0;
  for (size_t i = 0; i < parted.size();) {
    const UChar32 c = NextCharacter(parted, i);
    if (IsOptionalMark(base, c) || c == 0x640) continue;  // Arabic's filler for wide lines
    if (u_getCombiningClass(c) == 0) base = c;
    const std::string_view letters = PlainLetters(c);
    if (letters.empty()) {
      AppendCharacter(plain, c);
    } else {
      plain += letters;
    }
  }
  return Nfc(std::move(plain));
}

}  // namespace nudge
