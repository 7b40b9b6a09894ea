// An HTML page as people read it: bytes -> [TextOfHtml] -> title and text.
//
// lexbor reads it as browsers do (the HTML standard), whatever is wrong with it; nothing in it runs
// and nothing is fetched. Left out is what is not shown: scripts, styles, templates, frames, what
// is `hidden`, aria-hidden or display:none; and pictures but for their `alt`. Blocks are apart by
// an empty line, headings begin with # as in Markdown, items of lists with "- ", cells of a row are
// apart by " | "; white space is one blank but in <pre>.
//
// Any thread. Time and memory are bounded: a page may nest kNestedMost elements, and its tree may
// weigh kTreeBytesMax, since a short page can make a tree that is quadratic in its length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

inline constexpr size_t kNestedMost = 512;
inline constexpr size_t kTreeBytesMax = size_t{128} << 20;

struct HtmlText {
  std::string title;  // of <title>, on one line; may be empty
  std::string text;   // without white space at its ends; may be empty
};

// `html`: valid UTF-8, whatever the page says of its encoding. Errors: kTooLarge where a bound is
// reached, kInternal where lexbor finds no memory.
Result<HtmlText> TextOfHtml(std::string_view html);

}  // namespace nudge
