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

// Normalisation form C, and KC: broad letters and ligatures as plain ones too, case as it is.
std::string Nfc(std::string text);
std::string Nfkc(std::string_view text);

size_t CountCharacters(std::string_view text);

// How many tokens a text is to an embedder, at most, by its script and without the embedder: three
// quarters of a token for a letter, which is what base64 and random letters come to (prose has half
// of that), half a token for a digit, one for a character of Chinese, Japanese and Korean and for
// all other letters, marks and signs, two for an emoji, more where NFKC writes a character out; a
// whole one at the begin of a word and wherever letters and digits follow each other; one for the
// space before a character that stands alone.
size_t EstimateTokens(std::string_view text);
// The same in quarters of a token, of a part of a text: of parts these add up to no less than of
// the whole, but for one token where a part that is not behind a space comes to stand first.
size_t EstimateQuarterTokens(std::string_view part, bool behind_space);

// The longest begin of `text` within `chars` characters and `tokens` estimated ones, in bytes. At
// least one character; letters with their marks, and emoji of several characters, are not parted
// unless they alone are too long.
size_t BytesThatFit(std::string_view text, size_t chars, size_t tokens);

// What CleanText makes of white space.
enum class Layout {
  kLine,        // any run becomes one space: titles
  kParagraphs,  // kept where it means something: questions and documents
  kKept,        // indentation, blank lines and inner runs stay: answers, prompts
};

// NFC, without controls and invisible format characters (zero-width spaces, soft hyphens, byte
// order marks, direction overrides, tags; the joiners of Indic scripts and emoji stay), every line
// end a \n, no white space before a line end, no blank line at either end of the text, and in a
// text of one line no space at its begin. Idempotent. About 1 ns a byte for ASCII in one line that
// is clean already, else about 5.
//
// kParagraphs keeps indentation, tabs, and inside fences of code all. Elsewhere several blank lines
// become one, and a run of spaces inside a line becomes one space, unless the line is indented, the
// run stands between quotation marks or backticks, or the line beside has such a gap too: columns.
// Spaces of other widths become plain ones; the broad space (U+3000) becomes two where it nests
// lines, none where it begins paragraphs as in Chinese books. Plain prose keeps its words, one
// space and at most one blank line.
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

// The parts of identifiers: get, User, By, Id of getUserById, HTTP and Server of HTTPServer, ID of
// IDs. Words of one case have none.
std::vector<std::string> CaseParts(std::string_view text);

// A folded word as somebody writes it who leaves out what can be left out: accents, vowel points of
// Hebrew and Arabic, the dot of a Turkish i; ae, oe, o, l for the letters that are drawn like them.
std::string WithoutMarks(std::string_view word);

}  // namespace nudge
