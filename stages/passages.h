// A document cut into passages: clean text (Layout::kParagraphs) -> CutIntoPassages -> passages.
//
// A function of its arguments, without a model; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nudge {

struct PassageLimits {
  size_t chars = 600;         // of a passage: code points
  size_t tokens = 480;        // of a passage: EstimateTokens
  bool with_overlap = false;  // a passage of prose begins with the sentence before it
};

// Cuts where it harms least: at ends of paragraphs where that fills at least half a passage, else
// at ends of sentences; of what is laid out in lines, at ends of lines. Only what is longer than a
// passage by itself is cut further: a sentence at its line ends, then where a line may be wrapped,
// then between characters.
//
// - A row of a table is never cut, nor an item of a list with the lines that go on with it, nor a
//   fence of code, unless longer than a passage. Tables: rows with bars (Markdown, ASCII art, box
//   drawing), lines with the same number of tabs, commas, semicolons or bars.
// - A passage that begins inside a table begins with the table's head once more; inside a fence
//   that had to be cut, with the line that opens it, and one that ends there closes it; inside
//   nested lines, with the lines that they are nested in. Unless these take more than half.
// - A heading, and a line that announces a table or fence by a colon, stays with what follows.
//
// No passage is over a limit, whatever is put in front. A last one of less than a quarter joins the
// one before or, where both are too long together, takes its last sentences.
std::vector<std::string> CutIntoPassages(std::string_view text, const PassageLimits& limits);

// What of a passage is shown whole or not at all: sentences, rows, items, fences, each with the
// white space behind it. Joined they are the text.
std::vector<std::string_view> UnitsOf(std::string_view text);

}  // namespace nudge
