#include <unicode/uchar.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "stages/characters.h"
#include "stages/lines.h"
#include "stages/text.h"

namespace nudge {
namespace {

// Printable ASCII in one line, no space at either end or beside another: clean in every layout.
bool IsCleanLine(std::string_view text) {
  char before = ' ';
  for (const char c : text) {
    if (c < ' ' || c > '~' || (c == ' ' && before == ' ')) return false;
    before = c;
  }
  return before != ' ' || text.empty();
}

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

// What is shown of a text as lines that end in '\n' alone, without white space behind them, without
// blank lines at either end. White space of one kind for all: spaces and tabs, and U+3000 where a
// line begins; as it came for kKept. A text of one line begins with what is shown.
std::string ShownLines(std::string_view text, Layout layout) {
  std::string lines;
  lines.reserve(text.size());
  std::string blanks;  // behind the last newline or shown character
  size_t newlines = 0;
  size_t first_indent = 0;
  UChar32 before = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const UChar32 c = NextCharacter(text, i);
    switch (GlyphOf(c)) {
      case Glyph::kBlank: {
        const bool indents = newlines > 0 || lines.empty();
        const bool broad = c == 0x3000 && indents && layout == Layout::kParagraphs;
        const bool as_it_came = layout == Layout::kKept || c == '\t' || broad;
        AppendCharacter(blanks, as_it_came ? c : ' ');
        break;
      }
      case Glyph::kNewline:
        if (c != '\n' || before != '\r') ++newlines;
        blanks.clear();
        break;
      case Glyph::kParagraph:
        newlines += 2;
        blanks.clear();
        break;
      case Glyph::kDropped:
        break;
      case Glyph::kShown:
        if (lines.empty()) {
          first_indent = blanks.size();
        } else {
          lines.append(newlines, '\n');
        }
        lines.append(blanks);
        newlines = 0;
        blanks.clear();
        if (c == 0xFFFD) {
          AppendCharacter(lines, c);
        } else {
          while (i < text.size() && text[i] > ' ' && text[i] < 0x7F) ++i;  // the rest of a word
          lines.append(text, begin, i - begin);
        }
        break;
    }
    before = c;
  }
  if (lines.find('\n') == std::string::npos) lines.erase(0, first_indent);
  return lines;
}

bool IsWordByte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<uint8_t>(c) >= 0x80;
}

// Where the quotation or code that begins at `i` ends; `i` if none does. An apostrophe is none, and
// what stands between single marks is short, so that many of them cost little.
size_t EndOfQuotation(std::string_view line, size_t i) {
  static constexpr size_t kLongest = 256;
  const char mark = line[i];
  if (mark == '`' || mark == '"') {
    const size_t end = line.find(mark, i + 1);
    return end == std::string_view::npos ? i : end;
  }
  if (mark != '\'' || (i > 0 && IsWordByte(line[i - 1]))) return i;
  const std::string_view near = line.substr(i, kLongest);
  for (size_t end = near.find(mark, 1); end != std::string_view::npos;
       end = near.find(mark, end + 1)) {
    if (i + end + 1 == line.size() || !IsWordByte(line[i + end + 1])) return i + end;
  }
  return i;
}

// One space for every run of them, but inside quotations and beside tabs.
void AppendSqueezed(std::string& text, std::string_view line) {
  for (size_t i = 0; i < line.size();) {
    const size_t quoted = EndOfQuotation(line, i);
    if (quoted > i) {
      text.append(line, i, quoted + 1 - i);
      i = quoted + 1;
      continue;
    }
    const size_t end = std::min(line.find_first_not_of(" \t", i), line.size());
    if (end == i) {
      text.push_back(line[i++]);
      continue;
    }
    const std::string_view run = line.substr(i, end - i);
    text.append(run.find('\t') == std::string_view::npos ? " " : run);
    i = end;
  }
}

// The indent of a paragraph in Chinese and Japanese: one or two broad spaces, the same for all
// lines that have any. With other numbers they nest.
bool IndentsParagraphs(std::string_view text) {
  static constexpr std::string_view kBroad = "\u3000";
  size_t most = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    size_t i = begin;
    while (text.substr(i).starts_with(kBroad)) i += kBroad.size();
    const size_t count = (i - begin) / kBroad.size();
    if (count > 0) {
      const bool first = most == 0;
      most = first ? count : most;
      const UChar32 c = NextCharacter(text, i);
      const bool begins = u_isUAlphabetic(c) || c == 0x300C || c == 0x300E || c == 0x201C;
      if (count > 2 || count != most || !begins) return false;
    }
    begin = end + 1;
  }
  return true;
}

// Broad spaces at the begin of lines as spaces of two, or as none where they indent paragraphs.
std::string WithPlainIndents(const std::string& text) {
  static constexpr std::string_view kBroad = "\u3000";
  const std::string_view plain = IndentsParagraphs(text) ? "" : "  ";
  std::string result;
  bool indents = true;
  for (size_t i = 0; i < text.size();) {
    if (indents && std::string_view(text).substr(i).starts_with(kBroad)) {
      result += plain;
      i += kBroad.size();
      continue;
    }
    indents = text[i] == '\n' || (indents && (text[i] == ' ' || text[i] == '\t'));
    result.push_back(text[i++]);
  }
  return result;
}

// What of ShownLines' white space means nothing is folded: see Layout::kParagraphs.
std::string Squeezed(std::string text, Layout layout) {
  if (layout == Layout::kKept) return text;
  if (text.find("\u3000") != std::string::npos) text = WithPlainIndents(text);
  if (text.find("  ") == std::string::npos && text.find("\n\n\n") == std::string::npos) return text;
  std::string folded;
  folded.reserve(text.size());
  std::optional<Fence> fence;
  bool gap_before = false;  // in the line before, with no blank line between
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const size_t next = std::min(text.find_first_not_of('\n', end), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const bool fenced = fence.has_value();
    if (!fence) {
      fence = FenceOpenedBy(line);
    } else if (Closes(*fence, line)) {
      fence.reset();
    }
    const bool gap = !fenced && HasWideGap(line);
    bool columns = gap && gap_before;
    if (gap && !columns && next == end + 1) {
      const size_t next_end = std::min(text.find('\n', next), text.size());
      columns = HasWideGap(std::string_view(text).substr(next, next_end - next));
    }
    if (fenced || columns || IndentBytes(line) > 0) {
      folded += line;
    } else {
      AppendSqueezed(folded, line);
    }
    folded.append(fence ? next - end : std::min<size_t>(next - end, 2), '\n');
    gap_before = gap && next == end + 1;
    begin = next;
  }
  return folded;
}

std::string InOneLine(std::string_view text) {
  std::string line = ShownLines(text, Layout::kLine);
  size_t kept = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const bool blank = line[i] == ' ' || line[i] == '\t' || line[i] == '\n';
    if (blank && (kept == 0 || line[kept - 1] == ' ')) continue;
    line[kept++] = blank ? ' ' : line[i];
  }
  line.resize(kept);
  return line;
}

}  // namespace

std::string CleanText(std::string text, Layout layout) {
  if (IsCleanLine(text)) return text;
  if (layout == Layout::kLine) return Nfc(InOneLine(text));
  return Squeezed(Nfc(ShownLines(text, layout)), layout);
}

}  // namespace nudge
