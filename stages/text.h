// Unicode text as the stages need it: cleaned, counted, cut, made comparable. ICU's work, kept
// behind plain functions over UTF-8.
//
// Any thread, no locks: what ICU makes expensively (break iterators) each thread makes once, when
// it first needs it. Bytes that are not UTF-8 (decode refuses them) become U+FFFD in what is
// returned anew, and are never out of bounds. A character here is a Unicode code point.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nudge {

// Normalisation form C.
std::string Nfc(std::string_view text);

size_t CountCharacters(std::string_view text);

// What CleanText makes of white space.
enum class Layout {
  kLine,        // any run becomes one space: titles
  kParagraphs,  // a run becomes one space, one newline if it holds one, two if it holds more
  kKept,        // indentation, blank lines and inner runs stay: code, answers, prompts
};

// NFC, without controls and invisible format characters (zero-width spaces, soft hyphens, byte
// order marks, direction overrides, tags; the joiners of Indic scripts and emoji stay), every line
// end a \n, no space before a line end or at either end of the text. Idempotent.
// About 1 ns a byte for ASCII in one line that is clean already, else about 5.
std::string CleanText(std::string text, Layout layout);

// The sentences of a text, each with the white space behind it: joined they are the text. A blank
// line always ends a sentence, a single newline does not. English, Chinese and all else that
// Unicode's rules (UAX 29) cover.
std::vector<std::string_view> Sentences(std::string_view text);

// The pieces between which a line may be wrapped (UAX 14), each with the white space behind it:
// joined they are the text.
std::vector<std::string_view> WrappablePieces(std::string_view text);

// The words of a text in order, for the lexical index, folded by NFKC_Casefold: UAX 29's, with
// ICU's dictionary for Chinese, Japanese, Thai and their like. No punctuation.
std::vector<std::string> Words(std::string_view text);

// Equal for texts that ask the same with other letter case, width, spacing or closing punctuation:
// NFKC_Casefold, white space folded, trailing terminal punctuation (". ? !" and their like in all
// scripts) dropped, unless nothing else is there. Idempotent.
std::string NormalisedKey(std::string_view text);

}  // namespace nudge
