#include "stages/lines.h"

#include <algorithm>
#include <array>

namespace nudge {
namespace {

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view Unindented(std::string_view line) {
  return line.substr(IndentBytes(line));
}

// U+2500..U+257F, and the broad | of East Asian texts.
bool IsBoxCharacter(std::string_view at) {
  return at.starts_with("\xE2\x94") || at.starts_with("\xE2\x95") || at.starts_with("\uFF5C");
}

}  // namespace

std::optional<Fence> FenceOpenedBy(std::string_view line) {
  const std::string_view text = Unindented(line);
  if (text.empty() || (text[0] != '`' && text[0] != '~')) return std::nullopt;
  const size_t length = std::min(text.find_first_not_of(text[0]), text.size());
  if (length < 3) return std::nullopt;
  // Marks on the same line close it again: code inside a sentence.
  if (text[0] == '`' && text.find('`', length) != std::string_view::npos) return std::nullopt;
  return Fence{text[0], length};
}

bool Closes(const Fence& fence, std::string_view line) {
  const std::string_view text = Unindented(line);
  return text.size() >= fence.length &&
         text.find_first_not_of(fence.mark) == std::string_view::npos;
}

size_t IndentBytes(std::string_view line) {
  return std::min(line.find_first_not_of(" \t"), line.size());
}

size_t IndentColumns(std::string_view line) {
  size_t columns = 0;
  for (const char c : line.substr(0, IndentBytes(line))) {
    columns = c == '\t' ? (columns / 8 + 1) * 8 : columns + 1;
  }
  return columns;
}

bool IsListItem(std::string_view line) {
  static constexpr std::array<std::string_view, 12> kBullets = {
      "-",      "*",      "+",      ">",      "\u2022", "\u2023",
      "\u25E6", "\u2043", "\u2013", "\u2014", "\u25CF", "\u25CB"};
  const std::string_view text = Unindented(line);
  if (text.starts_with("\u30FB") || text.starts_with(">")) return true;
  const auto is_blank_at = [&](size_t i) {
    return i < text.size() && (text[i] == ' ' || text[i] == '\t');
  };
  for (const std::string_view bullet : kBullets) {
    if (text.starts_with(bullet) && (is_blank_at(bullet.size()) || text == bullet)) return true;
  }
  size_t digits = 0;
  while (digits < text.size() && IsDigit(text[digits])) ++digits;
  const bool letter = digits == 0 && text.size() > 1 && text[0] >= 'a' && text[0] <= 'z';
  const size_t mark = letter ? 1 : digits;
  if (mark == 0 || mark > 3 || mark >= text.size()) return false;
  return (text[mark] == ')' || (text[mark] == '.' && !letter)) && is_blank_at(mark + 1);
}

bool IsHeading(std::string_view line) {
  const size_t marks = std::min(line.find_first_not_of('#'), line.size());
  return marks >= 1 && marks <= 6 && marks < line.size() && line[marks] == ' ';
}

bool HasWideGap(std::string_view line) {
  static constexpr std::string_view kPauses = ".?!:;,";
  for (size_t i = IndentBytes(line); i + 1 < line.size(); ++i) {
    if (line[i] == '\t') return true;
    if (line[i] != ' ' || (line[i + 1] != ' ' && line[i + 1] != '\t')) continue;
    if (line[i + 1] == '\t' || kPauses.find(line[i - 1]) == std::string_view::npos) return true;
    i = std::min(line.find_first_not_of(' ', i), line.size()) - 1;
  }
  return false;
}

bool IsBarRow(std::string_view line) {
  const std::string_view text = Unindented(line);
  return text.starts_with('|') || text.starts_with("+-") || text.starts_with("+=") ||
         IsBoxCharacter(text);
}

bool IsRule(std::string_view line) {
  size_t dashes = 0;
  size_t bars = 0;
  for (size_t i = 0; i < line.size();) {
    if (line[i] == '-' || line[i] == '=') {
      ++dashes;
      ++i;
    } else if (line.substr(i).starts_with("\u2500") || line.substr(i).starts_with("\u2550") ||
               line.substr(i).starts_with("\u2501")) {
      ++dashes;
      i += 3;
    } else if (line[i] == '|' || line[i] == '+' || line[i] == ':' || line[i] == ' ') {
      bars += line[i] == '|' || line[i] == '+';
      ++i;
    } else if (IsBoxCharacter(line.substr(i))) {
      ++bars;
      i += 3;
    } else {
      return false;
    }
  }
  return dashes > 0 && bars > 0;
}

bool NamesColumns(std::string_view row, char delimiter) {
  while (!row.empty()) {
    const size_t end = std::min(row.find(delimiter), row.size());
    const size_t first = row.find_first_not_of(" \"'+-.$(", 0);
    if (first < end && IsDigit(row[first])) return false;
    row.remove_prefix(std::min(end + 1, row.size()));
  }
  return true;
}

}  // namespace nudge
