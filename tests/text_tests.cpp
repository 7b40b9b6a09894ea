// labels: unit
#include "stages/text.h"

#include <boost/test/unit_test.hpp>
#include <string>
#include <thread>
#include <vector>

#include "stages/hash.h"

using namespace nudge;

namespace {

std::string Joined(const std::vector<std::string_view>& pieces) {
  std::string text;
  for (const std::string_view piece : pieces) text += piece;
  return text;
}

std::string Listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : "|") + word;
  return text;
}

// Characters that the rules treat differently, in random order.
std::string RandomText(uint64_t seed, size_t length) {
  static const std::vector<std::string> kAlphabet = {
      "a",      "b",       "Z",      "1",          "9",      " ",        " ",      "\n",
      "\r",     "\t",      ".",      ",",          "'",      "_",        ":",      ";",
      "-",      "e\u0301", "\u0301", "\u00e9",     "\u200b", "\u00ad",   "\ufeff", "\u3000",
      "\u00a0", "\u2029",  "\u4e2d", "\u6587",     "\u3002", "\uff1f",   "\ufb01", "\u00df",
      "\u200d", "\u202e",  "\x01",   "\U0001F600", "\uac00", "\u1100",   "\u1161", "  ",
      "\n  ",   "\"",      "`",      "\n```\n",    "\t",     "\n\u3000", "\u1fef"};
  std::string text;
  for (size_t i = 0; i < length; ++i) text += kAlphabet[RandomAt(seed, i) % kAlphabet.size()];
  return text;
}

}  // namespace

BOOST_AUTO_TEST_CASE(composed_and_decomposed_letters_become_equal) {
  BOOST_TEST(Nfc("cafe\u0301") == "caf\u00e9");
  BOOST_TEST(Nfc("caf\u00e9") == "caf\u00e9");
  BOOST_TEST(Nfc("\u1112\u1161\u11ab") == "\ud55c");
  BOOST_TEST(CleanText("cafe\u0301", Layout::kLine) == "caf\u00e9");
}

BOOST_AUTO_TEST_CASE(what_a_dropped_character_parted_is_composed) {
  BOOST_TEST(CleanText("e\u200b\u0301", Layout::kParagraphs) == "\u00e9");
}

BOOST_AUTO_TEST_CASE(characters_are_code_points) {
  BOOST_TEST(CountCharacters("") == 0U);
  BOOST_TEST(CountCharacters("abc") == 3U);
  BOOST_TEST(CountCharacters("\u4e2d\u6587\U0001F600") == 3U);
}

BOOST_AUTO_TEST_CASE(white_space_is_folded_and_paragraphs_stay) {
  const auto clean = [](const char* text) { return CleanText(text, Layout::kParagraphs); };
  BOOST_TEST(clean("  a  b   c  ") == "a b c");
  BOOST_TEST(clean("a \r\n b") == "a\n b");
  BOOST_TEST(clean("a\r\rb") == "a\n\nb");
  BOOST_TEST(clean("a\n \n\n\nb\n") == "a\n\nb");
  BOOST_TEST(clean("a\u2029b\u2028c\u0085"
                   "d") == "a\n\nb\nc\nd");
  BOOST_TEST(clean("\u4e2d\u3000\u00a0\u6587") == "\u4e2d \u6587");
  BOOST_TEST(clean(" \n\t ") == "");
  BOOST_TEST(clean("") == "");
}

BOOST_AUTO_TEST_CASE(a_line_has_no_line_ends) {
  BOOST_TEST(CleanText(" a\n\nb \t c\r\n", Layout::kLine) == "a b c");
}

BOOST_AUTO_TEST_CASE(a_kept_layout_keeps_indentation_and_loses_trailing_space) {
  BOOST_TEST(CleanText("\n if x:\r\n    go()  \n\n\n\tend \n", Layout::kKept) ==
             " if x:\n    go()\n\n\n\tend");
  BOOST_TEST(CleanText("a  b", Layout::kKept) == "a  b");
}

BOOST_AUTO_TEST_CASE(controls_and_invisible_characters_go_and_joiners_stay) {
  const auto clean = [](const std::string& text) { return CleanText(text, Layout::kParagraphs); };
  BOOST_TEST(clean(std::string("a\x01\x1b\x7f\0b", 6)) == "ab");
  BOOST_TEST(clean("\ufeff"
                   "a\u200bb\u00ad"
                   "c\u202e"
                   "d\u2066"
                   "e\U000E0041") == "abcde");
  BOOST_TEST(clean("\U0001F468\u200d\U0001F469") == "\U0001F468\u200d\U0001F469");
  BOOST_TEST(clean("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e");
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_utf8_become_replacement_characters) {
  BOOST_TEST(CleanText("a\xff"
                       "b\xe4\xb8",
                       Layout::kLine) ==
             "a\ufffd"
             "b\ufffd");
  Words("\xe4\xb8 \xff");
  CaseParts("\xe4\xb8 \xff");
  WithoutMarks("\xe4\xb8\xc3\xff");
  EstimateTokens("\xe4\xb8 \xff");
  Sentences("\xe4\xb8. \xff");
}

BOOST_AUTO_TEST_CASE(cleaning_twice_changes_nothing_more) {
  for (const Layout layout : {Layout::kLine, Layout::kParagraphs, Layout::kKept}) {
    for (uint64_t seed = 0; seed < 3000; ++seed) {
      const std::string once = CleanText(RandomText(seed, 1 + seed % 40), layout);
      BOOST_REQUIRE_EQUAL(CleanText(once, layout), once);
      BOOST_REQUIRE_EQUAL(Nfc(once), once);
    }
  }
}

BOOST_AUTO_TEST_CASE(english_sentences_are_found) {
  const auto found = Sentences("It works. Does it? Yes, 3.5 times!\nA line\ngoes on. End");
  BOOST_REQUIRE_EQUAL(found.size(), 5U);
  BOOST_TEST(found[0] == "It works. ");
  BOOST_TEST(found[1] == "Does it? ");
  BOOST_TEST(found[2] == "Yes, 3.5 times!\n");
  BOOST_TEST(found[3] == "A line\ngoes on. ");
  BOOST_TEST(found[4] == "End");
}

BOOST_AUTO_TEST_CASE(chinese_sentences_are_found) {
  const auto found = Sentences("今天下雨。你带伞了吗？没有！");
  BOOST_REQUIRE_EQUAL(found.size(), 3U);
  BOOST_TEST(found[0] == "今天下雨。");
  BOOST_TEST(found[1] == "你带伞了吗？");
  BOOST_TEST(found[2] == "没有！");
}

BOOST_AUTO_TEST_CASE(a_blank_line_ends_a_sentence) {
  const auto found = Sentences("heading\n\nbody");
  BOOST_REQUIRE_EQUAL(found.size(), 2U);
  BOOST_TEST(found[0] == "heading\n\n");
  BOOST_TEST(found[1] == "body");
}

BOOST_AUTO_TEST_CASE(pieces_joined_are_the_text) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = RandomText(seed, seed % 80);
    BOOST_REQUIRE_EQUAL(Joined(Sentences(text)), text);
    BOOST_REQUIRE_EQUAL(Joined(WrappablePieces(text)), text);
  }
}

BOOST_AUTO_TEST_CASE(words_are_folded_and_bare_of_punctuation) {
  BOOST_TEST(Listed(Words("The Quick, brown FOX's 1,234.5 jumps -- over_it!")) ==
             "the|quick|brown|fox's|1,234.5|jumps|over_it");
  BOOST_TEST(Listed(Words("Straße ＦＵＬＬ ﬁn")) == "strasse|full|fin");
  BOOST_TEST(Words("").empty());
  BOOST_TEST(Words(" .,;_ ").empty());
}

BOOST_AUTO_TEST_CASE(chinese_is_cut_into_words) {
  BOOST_TEST(Listed(Words("北京大学的学生学习自然语言处理。")) ==
             "北京|大学|的|学生|学习|自然|语言|处理");
  BOOST_TEST(Listed(Words("ICU72的中文分词")) == "icu72|的|中文|分词");
}

// A Chinese character behind the text sends all of it through ICU.
BOOST_AUTO_TEST_CASE(ascii_words_are_those_that_icu_finds) {
  static constexpr std::string_view kAlphabet = "aabZ119 .,'_:;-\"\n/@#";
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    std::string text;
    for (size_t i = 0; i < 1 + seed % 24; ++i) {
      // A third of the texts over all of ASCII, the others over what the rules speak of.
      text += seed % 3 == 0 ? static_cast<char>(RandomAt(seed, i) % 128)
                            : kAlphabet[RandomAt(seed, i) % kAlphabet.size()];
    }
    std::vector<std::string> expected = Words(text + " \u4e2d");
    BOOST_REQUIRE(!expected.empty() && expected.back() == "\u4e2d");
    expected.pop_back();
    BOOST_REQUIRE_EQUAL(Listed(Words(text)), Listed(expected));
  }
}

BOOST_AUTO_TEST_CASE(plain_prose_is_cleaned_as_it_always_was) {
  const auto clean = [](const char* text) { return CleanText(text, Layout::kParagraphs); };
  BOOST_TEST(clean("It rains.  It pours.\nThe old man  snores.\n\n\n\nHe went to bed. ") ==
             "It rains. It pours.\nThe old man snores.\n\nHe went to bed.");
  BOOST_TEST(clean("\u3000\u3000\u7b2c\u4e00\u6bb5\u3002\n\u3000\u3000\u7b2c\u4e8c\u6bb5\u3002") ==
             "\u7b2c\u4e00\u6bb5\u3002\n\u7b2c\u4e8c\u6bb5\u3002");
  BOOST_TEST(clean("the dogs' toys  and the cats' toys don't  mix") ==
             "the dogs' toys and the cats' toys don't mix");
  BOOST_TEST(clean("one\u00a0two\u2009three") == "one two three");
}

BOOST_AUTO_TEST_CASE(indentation_with_spaces_and_tabs_stays) {
  for (const char* text :
       {"What does this print?\nfor i in range(3):\n    x = i\n    print(x)",
        "What does this print?\nfor i in range(3):\n    x = i\nprint(x)", "all:\n\techo hi",
        "all:\n        echo hi", "- a\n  - b\n    - c\n  - d",
        "server:\n  port: 8080\n  tls:\n    port: 8443\n\nclient:\n\n  port: 9090", "  - a\n- b",
        "--- a/x\n+++ b/x\n@@ -1 +1 @@\n same\n-old\n+new", "cat <<EOF\n  two\n\tone\nEOF",
        "\u05d0:\n  \u05d1: 1\n    \u05d2: 2"}) {
    BOOST_TEST(CleanText(text, Layout::kParagraphs) == text);
    BOOST_TEST(CleanText(text, Layout::kKept) == text);
  }
  BOOST_TEST(CleanText("a:\n\u00a0\u00a0b: 1\n", Layout::kParagraphs) == "a:\n  b: 1");
  BOOST_TEST(CleanText("\u4e00\n\u3000\u4e8c\n\u3000\u3000\u4e09", Layout::kParagraphs) ==
             "\u4e00\n  \u4e8c\n    \u4e09");
  BOOST_TEST(CleanText("a:\u2028  b: 1\u2028    c: 2", Layout::kParagraphs) ==
             "a:\n  b: 1\n    c: 2");
}

BOOST_AUTO_TEST_CASE(columns_quotations_and_tabs_keep_their_gaps) {
  for (const char* text :
       {"NAME     READY   STATUS\nweb-1    1/1     Running\ndb       0/1     Pending",
        "a\tb\tc\n1\t\t3", "print(\"a  b\")", "Is `a  b` the same as `a b`?", "echo 'a  b'",
        "if x:\n    y = 1      # one"}) {
    BOOST_TEST(CleanText(text, Layout::kParagraphs) == text);
  }
}

BOOST_AUTO_TEST_CASE(inside_a_fence_all_is_kept_but_the_ends_of_lines) {
  BOOST_TEST(CleanText("See:\n\n\n```py\na = 1  \n\n\n\nb  =  2\r\n```\n\n\n\nEnd  of it",
                       Layout::kParagraphs) ==
             "See:\n\n```py\na = 1\n\n\n\nb  =  2\n```\n\nEnd of it");
}

BOOST_AUTO_TEST_CASE(tokens_are_estimated_by_script) {
  const auto repeated = [](const char* text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; ++i) all += text;
    return EstimateTokens(all);
  };
  BOOST_TEST(EstimateTokens("") == 0U);
  BOOST_TEST(EstimateTokens("the cat") == 5U);
  BOOST_TEST(repeated("The weather is fine today. ", 22) < 420U);
  BOOST_TEST(repeated("\u6587", 600) == 601U);
  BOOST_TEST(repeated("\U0001F600", 300) == 601U);
  BOOST_TEST(repeated("QmFzZTY0IGlz", 50) > 451U);
  BOOST_TEST(repeated("\ufdfa", 10) == 101U);
}

BOOST_AUTO_TEST_CASE(what_fits_parts_no_letter_from_its_marks_and_no_emoji) {
  const std::string family = "\U0001F468\u200d\U0001F469\u200d\U0001F467";
  BOOST_TEST(BytesThatFit("abc", 2, 100) == 2U);
  BOOST_TEST(BytesThatFit("ab" + family, 4, 100) == 2U);
  BOOST_TEST(BytesThatFit("ae\u0301x", 2, 100) == 1U);
  BOOST_TEST(BytesThatFit(family, 2, 100) == 7U);  // nothing else is left
  BOOST_TEST(BytesThatFit("\u6587\u6587\u6587", 9, 3) == 6U);
  BOOST_TEST(BytesThatFit("\ufdfa", 9, 2) == 3U);
}

BOOST_AUTO_TEST_CASE(identifiers_have_parts_where_their_case_changes) {
  BOOST_TEST(Listed(CaseParts("Call getUserById(id) of HTTPServer now")) ==
             "get|User|By|Id|HTTP|Server");
  BOOST_TEST(Listed(CaseParts("two IDs, two PDFs")) == "ID|PDF");
  BOOST_TEST(Listed(CaseParts("iPhone and base64Encode")) == "i|Phone|base64|Encode");
  BOOST_TEST(
      Listed(CaseParts("\u0441\u0447\u0451\u0442\u041a\u043b\u0438\u0435\u043d\u0442\u0430")) ==
      "\u0441\u0447\u0451\u0442|\u041a\u043b\u0438\u0435\u043d\u0442\u0430");
  BOOST_TEST(CaseParts("Plain prose has NASA and none").empty());
}

BOOST_AUTO_TEST_CASE(marks_that_can_be_left_out_are) {
  BOOST_TEST(WithoutMarks("r\u00e9sum\u00e9") == "resume");
  BOOST_TEST(WithoutMarks("i\u0307stanbul") == "istanbul");
  BOOST_TEST(WithoutMarks("\u0131l\u0131k") == "ilik");
  BOOST_TEST(WithoutMarks("\u0142\u00f3d\u017a") == "lodz");
  BOOST_TEST(WithoutMarks("\u0435\u0449\u0451") == "\u0435\u0449\u0435");
  BOOST_TEST(WithoutMarks("\u043c\u043e\u0439") == "\u043c\u043e\u0439");
  BOOST_TEST(WithoutMarks("\u304c") == "\u304c");
  BOOST_TEST(WithoutMarks("\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd") == "\u05e9\u05dc\u05d5\u05dd");
  BOOST_TEST(WithoutMarks("\u0939\u093f\u0928\u094d\u0926\u0940") ==
             "\u0939\u093f\u0928\u094d\u0926\u0940");
}

BOOST_AUTO_TEST_CASE(threads_find_the_same_words) {
  std::vector<std::string> texts;
  std::vector<std::string> expected;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    texts.push_back(RandomText(seed, 60));
    expected.push_back(Listed(Words(texts.back())));
  }
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int& count : wrong) {
      threads.emplace_back([&] {
        for (size_t i = 0; i < texts.size(); ++i) count += Listed(Words(texts[i])) != expected[i];
      });
    }
  }
  for (const int count : wrong) BOOST_TEST(count == 0);
}
