#include "stages/passages.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "stages/characters.h"
#include "stages/lines.h"
#include "stages/text.h"

namespace nudge {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

struct Size {
  size_t chars = 0;
  size_t quarters = 0;  // of tokens

  friend Size operator+(Size x, Size y) { return {x.chars + y.chars, x.quarters + y.quarters}; }
  bool Within(size_t most_chars, size_t most_tokens) const {
    // One token more, for a part that comes to stand first.
    return chars <= most_chars && quarters / 4 + 2 <= most_tokens;
  }
};

Size SizeOf(std::string_view text, bool behind_space = true) {
  return {CountCharacters(text), EstimateQuarterTokens(text, behind_space)};
}

std::string_view WithoutTrailingSpace(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\n") + 1);
}

// A line, with the line ends behind it.
struct Line {
  std::string_view text;
  std::string_view content;  // without them
  size_t columns = 0;        // of its indent

  bool ends_paragraph() const { return text.size() >= content.size() + 2; }
};

std::vector<Line> LinesOf(std::string_view text) {
  std::vector<Line> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const size_t next = std::min(text.find_first_not_of('\n', end), text.size());
    const std::string_view content = text.substr(begin, end - begin);
    lines.push_back({text.substr(begin, next - begin), content, IndentColumns(content)});
    begin = next;
  }
  return lines;
}

std::string_view Joined(std::string_view first, std::string_view last) {
  return {first.data(), static_cast<size_t>(last.data() + last.size() - first.data())};
}

// A stretch of a document that is not cut.
struct Piece {
  std::string_view text;   // with the white space behind it
  Size size;               // of all of it
  Size trimmed;            // without that white space
  size_t parent = kNone;   // the piece that a passage repeats which begins here
  std::string_view fence;  // inside a fence that is cut: the mark that closes it
  bool is_sentence = false;
  bool is_line = false;  // begins at the begin of a line
  bool binds_next = false;

  bool ends_paragraph() const { return text.ends_with("\n\n"); }
};

// A table's lines, and how many of them are its head.
struct Table {
  size_t rows = 0;
  size_t head = 0;
};

// Delimiters outside of quotation marks. Of commas and semicolons in prose a space follows.
struct Delimiters {
  size_t count = 0;
  size_t before_space = 0;
};

Delimiters CountDelimiters(std::string_view line, char delimiter) {
  Delimiters found;
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"') quoted = !quoted;
    if (line[i] != delimiter || quoted) continue;
    ++found.count;
    found.before_space += i + 1 < line.size() && line[i + 1] == ' ';
  }
  return found;
}

// Counting tokens is dear: an ASCII character is never more than one, any other byte than four.
bool FitsWithin(std::string_view text, const PassageLimits& limits) {
  if (text.size() > limits.chars && CountCharacters(text) > limits.chars) return false;
  const bool is_short = text.size() <= limits.tokens / 4;
  if (is_short || (text.size() <= limits.tokens && IsAscii(text))) return true;
  return EstimateTokens(text) <= limits.tokens;
}

// Cuts a text into pieces.
class PieceMaker {
 public:
  PieceMaker(std::string_view text, const PassageLimits& limits)
      : limits_(limits), lines_(LinesOf(text)) {}

  std::vector<Piece> Make() {
    for (size_t i = 0; i < lines_.size();) {
      if (FenceOpenedBy(lines_[i].content)) {
        i = AddFence(i);
      } else if (const Table table = TableAt(i); table.rows > 0) {
        AddTable(i, table);
        i += table.rows;
      } else if (const size_t heading = HeadingAt(i); heading > 0) {
        nesting_.clear();
        AddWhole(Joined(lines_[i].text, lines_[i + heading - 1].text), kNone);
        pieces_.back().binds_next = true;
        i += heading;
      } else {
        i = AddParagraph(i);
      }
    }
    return std::move(pieces_);
  }

 private:
  bool Fits(std::string_view text) const { return FitsWithin(text, limits_); }

  void Push(std::string_view text, size_t parent) {
    Piece piece;
    piece.text = text;
    const bool behind_space =
        pieces_.empty() || static_cast<uint8_t>(pieces_.back().text.back()) <= ' ';
    piece.size = SizeOf(text, behind_space);
    const std::string_view trimmed = WithoutTrailingSpace(text);
    piece.trimmed = {piece.size.chars - (text.size() - trimmed.size()), piece.size.quarters};
    piece.parent = parent;
    pieces_.push_back(piece);
  }

  // Where a line may be wrapped, and anywhere at last.
  void AddWrapped(std::string_view text, size_t parent) {
    for (std::string_view wrappable : WrappablePieces(text)) {
      while (!Fits(wrappable)) {
        const size_t bytes = BytesThatFit(wrappable, limits_.chars, limits_.tokens);
        Push(wrappable.substr(0, bytes), parent);
        wrappable.remove_prefix(bytes);
      }
      if (!wrappable.empty()) Push(wrappable, parent);
    }
  }

  void AddSentences(std::string_view text, size_t parent) {
    for (const std::string_view sentence : Sentences(text)) {
      if (Fits(sentence)) {
        Push(sentence, parent);
        pieces_.back().is_sentence = parent == kNone;
        continue;
      }
      for (const Line& line : LinesOf(sentence)) {
        if (Fits(line.text)) {
          Push(line.text, parent);
        } else {
          AddWrapped(line.text, parent);
        }
      }
    }
  }

  // One piece, if it can be one; the first of them begins a line.
  void AddWhole(std::string_view text, size_t parent) {
    const size_t first = pieces_.size();
    if (Fits(text)) {
      Push(text, parent);
    } else {
      AddSentences(text, parent);
    }
    if (first < pieces_.size()) pieces_[first].is_line = true;
  }

  // "Prices:" stays with the table that it announces.
  void BindAnnouncement() {
    if (pieces_.empty()) return;
    Piece& last = pieces_.back();
    const bool announces = WithoutTrailingSpace(last.text).ends_with(':');
    if (announces && last.size.chars <= limits_.chars / 4) last.binds_next = true;
  }

  // The parent of a line: the last one before it that is indented less.
  size_t ParentOf(size_t columns, size_t root) {
    while (!nesting_.empty() && nesting_.back().columns >= columns) nesting_.pop_back();
    return nesting_.empty() ? root : nesting_.back().piece;
  }

  void AddNested(std::string_view text, size_t columns, size_t root) {
    const size_t parent = ParentOf(columns, root);
    const size_t first = pieces_.size();
    AddWhole(text, parent);
    if (pieces_.size() == first + 1) nesting_.push_back({columns, first});
  }

  size_t AddFence(size_t begin) {
    BindAnnouncement();
    nesting_.clear();
    const Fence fence = *FenceOpenedBy(lines_[begin].content);
    size_t end = begin + 1;
    while (end < lines_.size() && !Closes(fence, lines_[end].content)) ++end;
    const bool closed = end < lines_.size();
    end += closed;
    const std::string_view whole = Joined(lines_[begin].text, lines_[end - 1].text);
    if (Fits(whole)) {
      AddWhole(whole, kNone);
      return end;
    }
    // Each passage of it is closed by its mark, unless somebody made that absurdly long.
    const size_t mark_length = fence.length <= 16 ? fence.length : 0;
    const std::string_view mark =
        lines_[begin].content.substr(IndentBytes(lines_[begin].content), mark_length);
    const PassageLimits whole_limits = limits_;
    limits_.chars -= mark_length + 1;
    limits_.tokens -= mark_length;
    const size_t opening = pieces_.size();
    AddWhole(lines_[begin].text, kNone);
    pieces_.back().binds_next = true;
    for (size_t i = begin + 1; i < end - closed; ++i) {
      AddNested(lines_[i].text, lines_[i].columns, opening);
    }
    for (size_t i = opening; i < pieces_.size(); ++i) pieces_[i].fence = mark;
    limits_ = whole_limits;
    nesting_.clear();
    if (closed) AddWhole(lines_[end - 1].text, opening);
    return end;
  }

  void AddTable(size_t begin, const Table& table) {
    BindAnnouncement();
    nesting_.clear();
    size_t parent = kNone;
    for (size_t i = 0; i < table.rows; ++i) {
      const size_t first = pieces_.size();
      AddWhole(lines_[begin + i].text, parent);
      if (i >= table.head || pieces_.size() != first + 1) continue;
      pieces_[first].binds_next = true;
      parent = first;
    }
  }

  // Rows with bars: as long as each line is one. Their head ends with a rule.
  Table BarTableAt(size_t begin) const {
    Table table;
    size_t i = begin;
    const bool bars = IsBarRow(lines_[i].content);
    const auto rule_at = [&](size_t at) {
      return at < lines_.size() && IsRule(lines_[at].content);
    };
    if (!bars && (lines_[i].content.find('|') == std::string_view::npos ||
                  lines_[i].ends_paragraph() || !rule_at(i + 1))) {
      return table;
    }
    while (i < lines_.size()) {
      const bool row = bars ? IsBarRow(lines_[i].content)
                            : lines_[i].content.find('|') != std::string_view::npos;
      if (!row) break;
      if (lines_[i++].ends_paragraph()) break;
    }
    table.rows = i - begin;
    if (table.rows < 2) return {};
    for (size_t head = 1; head < std::min<size_t>(table.rows, 5) && table.head == 0; ++head) {
      if (rule_at(begin + head)) table.head = head + 1;
    }
    const std::string_view first = lines_[begin].content;
    if (table.head == 0 && first.starts_with('|') && NamesColumns(first, '|')) table.head = 1;
    return table;
  }

  // Lines of one paragraph with the same number of delimiters. The first ones decide, so that a
  // long paragraph which is no table is not read again for each of its lines.
  Table DelimitedTableAt(size_t begin, char delimiter) const {
    static constexpr size_t kDeciding = 32;
    const size_t count = CountDelimiters(lines_[begin].content, delimiter).count;
    if (count == 0) return {};
    const bool sure = delimiter == '\t';
    size_t spaced = 0;
    bool reads_as_prose = false;
    Table table;
    while (begin + table.rows < lines_.size()) {
      const Line& line = lines_[begin + table.rows];
      const Delimiters found = CountDelimiters(line.content, delimiter);
      if (found.count != count || (line.columns > 0 && !sure)) break;
      ++table.rows;
      if (table.rows <= kDeciding) {
        spaced += found.before_space;
        reads_as_prose |= std::string_view(".!?{").find(line.content.back()) != std::string::npos ||
                          line.content.ends_with(delimiter);
      } else if (table.rows == kDeciding + 1 &&
                 !IsTable(delimiter, count, spaced, reads_as_prose)) {
        return {};
      }
      if (line.ends_paragraph()) break;
    }
    if (table.rows < (sure ? 2U : 3U)) return {};
    if (!IsTable(delimiter, count, spaced, reads_as_prose)) return {};
    table.head = NamesColumns(lines_[begin].content, delimiter) ? 1 : 0;
    return table;
  }

  static bool IsTable(char delimiter, size_t count, size_t spaced, bool reads_as_prose) {
    if (delimiter == '\t' || delimiter == '|') return true;
    return count >= 2 ? spaced == 0 || !reads_as_prose : spaced == 0 && !reads_as_prose;
  }

  Table TableAt(size_t begin) const {
    const Table bars = BarTableAt(begin);
    if (bars.rows > 0) return bars;
    static constexpr std::array<char, 4> kDelimiters = {'\t', ',', ';', '|'};
    for (const char delimiter : kDelimiters) {
      const Table table = DelimitedTableAt(begin, delimiter);
      if (table.rows > 0) return table;
    }
    return {};
  }

  // The lines of a heading: "# a", or "a" over a line of = or -. 0: there is none.
  size_t HeadingAt(size_t i) const {
    if (IsHeading(lines_[i].content)) return 1;
    if (i + 1 >= lines_.size() || lines_[i].ends_paragraph() || lines_[i].columns > 3) return 0;
    const std::string_view under = lines_[i + 1].content;
    const bool follows_blank = i == 0 || lines_[i - 1].ends_paragraph();
    const bool ruled =
        under.size() >= 3 && (under.find_first_not_of('=') == std::string_view::npos ||
                              under.find_first_not_of('-') == std::string_view::npos);
    return follows_blank && ruled ? 2 : 0;
  }

  static bool IsLaidOut(const Line& line) {
    return line.columns > 0 || IsListItem(line.content) || HasWideGap(line.content);
  }

  size_t AddParagraph(size_t begin) {
    size_t end = begin;
    bool laid_out = false;
    do {
      laid_out |= IsLaidOut(lines_[end]);
      if (lines_[end++].ends_paragraph()) break;
    } while (end < lines_.size() && !FenceOpenedBy(lines_[end].content) &&
             !IsHeading(lines_[end].content) && TableAt(end).rows == 0);
    if (laid_out) {
      AddLaidOut(begin, end);
      return end;
    }
    nesting_.clear();
    const size_t first = pieces_.size();
    AddSentences(Joined(lines_[begin].text, lines_[end - 1].text), kNone);
    if (first < pieces_.size()) pieces_[first].is_line = true;
    const bool announces = end == begin + 1 && lines_[begin].content.ends_with(':');
    if (announces && pieces_.size() == first + 1) nesting_.push_back({0, first});
    return end;
  }

  // Line by line; an item of a list with what goes on with it in deeper lines.
  void AddLaidOut(size_t begin, size_t end) {
    for (size_t i = begin; i < end;) {
      size_t next = i + 1;
      if (IsListItem(lines_[i].content)) {
        while (next < end && lines_[next].columns > lines_[i].columns &&
               !IsListItem(lines_[next].content)) {
          ++next;
        }
        if (!Fits(Joined(lines_[i].text, lines_[next - 1].text))) next = i + 1;
      }
      AddNested(Joined(lines_[i].text, lines_[next - 1].text), lines_[i].columns, kNone);
      i = next;
    }
  }

  struct Level {
    size_t columns;
    size_t piece;
  };

  PassageLimits limits_;
  const std::vector<Line> lines_;
  std::vector<Piece> pieces_;
  std::vector<Level> nesting_;  // the lines that the next one may be nested in
};

// Pieces [begin, end) of one passage, behind what it repeats.
struct Range {
  size_t begin = 0;
  size_t end = 0;
  std::string head;    // of the piece at begin's parents
  size_t overlap = 0;  // pieces before begin
  Size size;           // of all that
};

class Packer {
 public:
  Packer(const std::vector<Piece>& pieces, const PassageLimits& limits)
      : pieces_(pieces), limits_(limits) {}

  std::vector<std::string> Pack() {
    open_ = Start(0);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (open_.end == open_.begin && pieces_[i].trimmed.chars == 0) {
        open_ = Start(i + 1);
        continue;
      }
      while (open_.end > open_.begin && !Fits(open_.size + pieces_[i].trimmed + Tail(i))) Close(i);
      Take(open_, i);
      const Piece& piece = pieces_[i];
      if (piece.ends_paragraph() && !piece.binds_next && open_.size.chars >= limits_.chars / 2) {
        Close(i + 1);
      }
    }
    if (open_.end > open_.begin) ranges_.push_back(std::move(open_));
    MendRest();
    std::vector<std::string> passages;
    passages.reserve(ranges_.size());
    for (const Range& range : ranges_) passages.push_back(TextOf(range));
    return passages;
  }

 private:
  bool Fits(Size size) const { return size.Within(limits_.chars, limits_.tokens); }
  bool FitsHalf(Size size) const { return size.Within(limits_.chars / 2, limits_.tokens / 2); }

  // What closes the fence behind piece i, should the passage end there.
  Size Tail(size_t i) const {
    const size_t mark = pieces_[i].fence.size();
    return mark == 0 ? Size{} : Size{mark + 1, 4 * mark};
  }

  void Take(Range& range, size_t i) const {
    range.size = range.size + pieces_[i].size;
    range.end = i + 1;
  }

  // Closes the open passage before piece `at`, or before the headings that lead to it.
  void Close(size_t at) {
    size_t cut = at;
    while (cut > open_.begin + 1 && pieces_[cut - 1].binds_next) --cut;
    if (pieces_[open_.begin].binds_next && cut == open_.begin + 1) cut = at;
    Range closed = std::move(open_);
    if (cut < at) {
      closed.size = {};
      closed.end = cut;
      for (size_t i = closed.begin; i < cut; ++i) closed.size = closed.size + pieces_[i].size;
      closed.size = closed.size + SizeOf(closed.head);
      for (size_t i = closed.begin - closed.overlap; i < closed.begin; ++i) {
        closed.size = closed.size + pieces_[i].size;
      }
    }
    ranges_.push_back(std::move(closed));
    open_ = Start(cut);
    for (size_t i = cut; i < at; ++i) Take(open_, i);
  }

  std::string LineOf(size_t i) const {
    return std::string(WithoutTrailingSpace(pieces_[i].text)) + "\n";
  }

  // The lines that piece `at` is nested in, from the outermost, or that one alone; empty where they
  // leave no room.
  std::string HeadOf(size_t at) const {
    std::string chain;
    size_t outermost = kNone;
    for (size_t i = pieces_[at].parent; i != kNone; i = pieces_[i].parent) {
      outermost = i;
      // A character has four bytes at most: a longer chain has no use.
      if (chain.size() <= 4 * limits_.chars) chain.insert(0, LineOf(i));
    }
    if (outermost == kNone) return {};
    const std::string root = LineOf(outermost);
    const auto leaves_room = [&](const std::string& head) {
      const Size size = SizeOf(head);
      return FitsHalf(size) && Fits(size + pieces_[at].trimmed + Tail(at));
    };
    if (leaves_room(chain)) return chain;
    return leaves_room(root) ? root : "";
  }

  Range Start(size_t at) const {
    Range range;
    range.begin = range.end = at;
    if (at >= pieces_.size()) return range;
    range.head = HeadOf(at);
    range.size = SizeOf(range.head);
    if (!limits_.with_overlap || at == 0 || pieces_[at].parent != kNone) return range;
    const Piece& before = pieces_[at - 1];
    const bool fits =
        before.size.chars <= limits_.chars / 4 && Fits(before.size + pieces_[at].trimmed);
    if (!before.is_sentence || !pieces_[at].is_sentence || !fits) return range;
    range.overlap = 1;
    range.size = before.size;
    return range;
  }

  // A small last passage joins the one before, or takes the end of it.
  void MendRest() {
    if (ranges_.size() < 2 || ranges_.back().size.chars >= limits_.chars / 4) return;
    Range last = std::move(ranges_.back());
    ranges_.pop_back();
    Range& before = ranges_.back();
    Range both = before;
    for (size_t i = last.begin; i + 1 < last.end; ++i) Take(both, i);
    if (Fits(both.size + pieces_[last.end - 1].trimmed + Tail(last.end - 1))) {
      Take(both, last.end - 1);
      before = std::move(both);
      return;
    }
    while (last.size.chars < limits_.chars / 4 && before.end > before.begin + 1) {
      const Piece& moved = pieces_[before.end - 1];
      const bool plain = moved.parent == kNone && moved.fence.empty() &&
                         pieces_[last.begin].parent == kNone && !pieces_[before.end - 2].binds_next;
      const Size size = last.size + moved.size;
      if (!plain || !Fits(size) || before.size.chars < size.chars + moved.size.chars) break;
      last.size = size;
      last.overlap = 0;
      last.begin = --before.end;
      before.size.chars -= moved.size.chars;
    }
    ranges_.push_back(std::move(last));
  }

  std::string TextOf(const Range& range) const {
    std::string_view body =
        Joined(pieces_[range.begin - range.overlap].text, pieces_[range.end - 1].text);
    const bool is_line = pieces_[range.begin - range.overlap].is_line;
    body.remove_prefix(std::min(body.find_first_not_of(is_line ? "\n" : " \t\n"), body.size()));
    std::string text = range.head;
    text += WithoutTrailingSpace(body);
    const std::string_view fence = pieces_[range.end - 1].fence;
    if (!fence.empty()) text.append("\n").append(fence);
    return text;
  }

  const std::vector<Piece>& pieces_;
  const PassageLimits& limits_;
  Range open_;
  std::vector<Range> ranges_;
};

}  // namespace

std::vector<std::string_view> UnitsOf(std::string_view text) {
  static constexpr PassageLimits kUnlimited{kNone, kNone, false};
  std::vector<std::string_view> units;
  for (const Piece& piece : PieceMaker(text, kUnlimited).Make()) units.push_back(piece.text);
  return units;
}

std::vector<std::string> CutIntoPassages(std::string_view text, const PassageLimits& limits) {
  if (FitsWithin(text, limits)) return {std::string(text)};
  const std::vector<Piece> pieces = PieceMaker(text, limits).Make();
  return Packer(pieces, limits).Pack();
}

}  // namespace nudge
