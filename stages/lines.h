// What a line of a text is by its layout: indented, an item of a list, a row, the mark of a fence.
//
// For who cleans and who cuts texts. Plain functions over UTF-8, any thread; a line is given
// without its line end.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace nudge {

// The mark that opens a fence of code in Markdown: three or more ` or ~.
struct Fence {
  char mark = 0;
  size_t length = 0;
};
std::optional<Fence> FenceOpenedBy(std::string_view line);
bool Closes(const Fence& fence, std::string_view line);

// The spaces and tabs that a line begins with, in bytes, and how far they move what follows.
size_t IndentBytes(std::string_view line);
size_t IndentColumns(std::string_view line);

// "- a", "* a", "1. a", "a) b", "> a" and their like, indented or not.
bool IsListItem(std::string_view line);

// "# a" to "###### a".
bool IsHeading(std::string_view line);

// Two or more spaces, or a tab, between words: columns. Not behind the end of a sentence, where
// people type two spaces.
bool HasWideGap(std::string_view line);

// Of a table with bars (Markdown, ASCII art, box drawing): | a | b |, +---+---+.
bool IsBarRow(std::string_view line);
// The line of dashes that parts a table's head from its rows.
bool IsRule(std::string_view line);

// Whether a row names columns: none of its cells, parted by `delimiter`, begins with a digit.
bool NamesColumns(std::string_view row, char delimiter);

}  // namespace nudge
