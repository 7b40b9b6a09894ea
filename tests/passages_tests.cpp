// labels: unit
#include "stages/passages.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "stages/hash.h"
#include "stages/text.h"

using namespace nudge;

namespace {

constexpr PassageLimits kSmall{100, 1000, false};

std::vector<std::string> Cut(const std::string& text, const PassageLimits& limits = kSmall) {
  const std::vector<std::string> passages = CutIntoPassages(text, limits);
  for (const std::string& passage : passages) {
    BOOST_TEST(CountCharacters(passage) <= limits.chars);
    BOOST_TEST(EstimateTokens(passage) <= limits.tokens);
  }
  return passages;
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// Every passage begins with the head and holds whole rows; together they hold every row once.
void RequireWholeRows(const std::string& head, const std::vector<std::string>& rows,
                      const PassageLimits& limits = kSmall) {
  std::string text = head;
  for (const std::string& row : rows) text += "\n" + row;
  const std::vector<std::string> passages = Cut(text, limits);
  BOOST_TEST(passages.size() > 2U);
  std::vector<std::string> found;
  for (const std::string& passage : passages) {
    BOOST_TEST(passage.starts_with(head + "\n"));
    for (const std::string& line : LinesOf(passage.substr(head.size() + 1))) found.push_back(line);
  }
  BOOST_TEST(found == rows, boost::test_tools::per_element());
}

std::vector<std::string> Rows(const std::string& begin, const std::string& between,
                              const std::string& end) {
  std::vector<std::string> rows;
  for (int i = 1; i <= 12; ++i) {
    rows.push_back(begin + "bolt. M" + std::to_string(i) + between + std::to_string(i + 3) + " Nm" +
                   end);
  }
  return rows;
}

}  // namespace

BOOST_AUTO_TEST_CASE(tables_are_cut_at_whole_rows_and_every_passage_has_the_head) {
  RequireWholeRows("| part | torque |\n|---|---|", Rows("| ", " | ", " |"));
  RequireWholeRows("| part | torque |\n| of | in Nm |\n|:--|--:|", Rows("| ", " \\| x | ", " |"));
  RequireWholeRows("part | torque\n--- | ---", Rows("", " | ", ""));
  RequireWholeRows("+------+------+\n| part | Nm   |\n+------+------+", Rows("| ", " | ", " |"));
  RequireWholeRows("part\ttorque\ttool", Rows("", "\t\t", ""));
  RequireWholeRows("part,torque", Rows("\"a, b\" ", ",", ""));
  RequireWholeRows("part, torque, tool", Rows("", ", ", ", key"));
  RequireWholeRows("part;torque", Rows("", ";", ""));
  RequireWholeRows("\u4ef6|\u529b|\u5177", Rows("", "|", "|\u94a5"));
}

BOOST_AUTO_TEST_CASE(a_first_row_of_numbers_is_no_head) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += std::to_string(i) + ",17,word\n";
  const auto passages = Cut(text.substr(0, text.size() - 1));
  BOOST_TEST(passages.size() > 3U);
  BOOST_TEST(!passages[1].starts_with("0,"));
  BOOST_TEST(passages[1].find(",17,word") <= 2U);
}

BOOST_AUTO_TEST_CASE(a_head_that_takes_more_than_half_is_not_repeated) {
  std::string text = "| " + std::string(60, 'h') + " |\n|---|";
  for (const std::string& row : Rows("| ", " ", " |")) text += "\n" + row;
  const auto passages = Cut(text);
  BOOST_TEST(passages[1].starts_with("| bolt. M"));
}

BOOST_AUTO_TEST_CASE(prose_with_commas_is_no_table) {
  const std::string prose =
      "It was cold, it was dark,\nand no one came, no one called,\nso we went home, or tried to,\n"
      "until the bridge, the old one,\nwas gone, too. Nobody knew why, or said so.";
  const auto passages = Cut(prose);
  BOOST_TEST(passages.size() == 2U);
  BOOST_TEST(passages[1].find("It was cold") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(nested_lines_are_cut_at_line_ends_behind_what_they_are_nested_in) {
  std::string text = "client:\n  tls:";
  for (int i = 0; i < 12; ++i) text += "\n    key_" + std::to_string(i) + ": value. And more";
  const auto passages = Cut(text + "\nserver:\n  port: 1");
  BOOST_TEST(passages.size() > 2U);
  for (const std::string& passage : passages) {
    BOOST_TEST(
        (passage.starts_with("client:\n  tls:\n    key_") || passage.starts_with("server:")));
  }
  BOOST_TEST(passages.back().find("server:\n  port: 1") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_item_stays_with_the_lines_that_go_on_with_it) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += "- Item one. It goes\n  on here. And ends.\n";
  for (const std::string& passage : Cut(text.substr(0, text.size() - 1))) {
    BOOST_TEST(passage.starts_with("- Item"));
    BOOST_TEST(passage.ends_with("ends."));
  }
}

BOOST_AUTO_TEST_CASE(a_fence_is_not_cut_where_it_fits) {
  const std::string fence = "```py\nif x:\n    go()\n\n\n    stop. Now. Please\n```";
  const auto passages =
      Cut(std::string(50, 'a') + ". More text.\n\n" + fence + "\n\nThe end of it all.");
  BOOST_REQUIRE_EQUAL(passages.size(), 2U);
  BOOST_TEST(passages[1] == fence + "\n\nThe end of it all.");
}

BOOST_AUTO_TEST_CASE(a_fence_too_long_is_opened_and_closed_in_every_passage) {
  std::string text = "```sh";
  for (int i = 0; i < 12; ++i) text += "\n  run --step " + std::to_string(i) + " # do it. Then";
  const auto passages = Cut(text + "\n```");
  BOOST_TEST(passages.size() > 3U);
  for (const std::string& passage : passages) {
    BOOST_TEST(passage.starts_with("```sh\n  run"));
    BOOST_TEST(passage.ends_with("\n```"));
  }
}

BOOST_AUTO_TEST_CASE(headings_and_announcements_stay_with_what_follows) {
  const std::string long_text(70, 'a');
  const auto heading = Cut(long_text + ".\n\n## Prices\n\nThe price is seven, and that is it.");
  BOOST_REQUIRE_EQUAL(heading.size(), 2U);
  BOOST_TEST(heading[1].starts_with("## Prices\n\nThe price"));
  const auto ruled = Cut(long_text + ".\n\nPrices\n======\n\nThe price is seven, and that is it.");
  BOOST_TEST(ruled.back().starts_with("Prices\n======\n\nThe price"));
  const auto table = Cut(std::string(40, 'a') + ". " + std::string(25, 'B') +
                         ".\nPrices:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nDone.");
  BOOST_TEST(table.back().starts_with("Prices:\n\n| a |"));
}

BOOST_AUTO_TEST_CASE(dense_scripts_are_cut_by_tokens_and_the_tail_is_there) {
  const PassageLimits limits{600, 480, false};
  std::string chinese;
  for (int i = 0; i < 60; ++i) chinese += "\u672c\u516c\u53f8\u5dee\u65c5\u8d39\u7528\u3002";
  const auto passages = Cut(chinese + "\u6700\u540e\u3002", limits);
  BOOST_TEST(passages.size() == 2U);
  BOOST_TEST(passages.back().ends_with("\u6700\u540e\u3002"));
  std::string emoji;
  for (int i = 0; i < 300; ++i) emoji += "\U0001F469\u200d\U0001F680";
  for (const std::string& passage : Cut(emoji, limits)) {
    BOOST_TEST(passage.starts_with("\U0001F469"));
    BOOST_TEST(passage.ends_with("\U0001F680"));
  }
}

BOOST_AUTO_TEST_CASE(no_limit_is_broken_and_nothing_is_lost_whatever_the_text) {
  static const std::vector<std::string> kPieces = {"word ",
                                                   "one. ",
                                                   "\n",
                                                   "\n\n",
                                                   "  ",
                                                   "\t",
                                                   "- ",
                                                   "| a | b |\n",
                                                   "|--|--|\n",
                                                   "```\n",
                                                   "## T\n",
                                                   "a,b,c\n",
                                                   "\u6587\u3002",
                                                   "\U0001F600",
                                                   "key:\n  ",
                                                   "x\ty\n",
                                                   std::string(130, 'x')};
  for (const bool with_overlap : {false, true}) {
    for (uint64_t seed = 0; seed < 600; ++seed) {
      std::string text = "a";
      for (size_t i = 0; i < seed % 150; ++i) text += kPieces[RandomAt(seed, i) % kPieces.size()];
      text = CleanText(text, Layout::kParagraphs);
      std::string units;
      for (const std::string_view unit : UnitsOf(text)) units += unit;
      BOOST_REQUIRE_EQUAL(units, text);
      const PassageLimits limits{100, seed % 2 == 0 ? 60U : 1000U, with_overlap};
      size_t at = 0;
      std::string joined;
      for (const std::string& passage : CutIntoPassages(text, limits)) {
        BOOST_REQUIRE(!passage.empty());
        BOOST_REQUIRE_LE(CountCharacters(passage), limits.chars);
        BOOST_REQUIRE_LE(EstimateTokens(passage), limits.tokens);
        joined += passage;
      }
      // Each character of the text comes in its order, between what is repeated.
      for (const char c : text) {
        if (c == ' ' || c == '\n' || c == '\t') continue;
        at = joined.find(c, at);
        BOOST_REQUIRE(at != std::string::npos);
        ++at;
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(plain_prose_is_cut_at_paragraphs_and_sentences_as_it_always_was) {
  const std::string text =
      "The first sentence of the text is this one. The second one follows\nit on two lines.\n\n"
      "A new paragraph begins here, and it is longer than the one before it was. It ends now.";
  const auto passages = Cut(text);
  BOOST_REQUIRE_EQUAL(passages.size(), 2U);
  BOOST_TEST(passages[0] ==
             "The first sentence of the text is this one. "
             "The second one follows\nit on two lines.");
  BOOST_TEST(passages[1] == text.substr(passages[0].size() + 2));
}
