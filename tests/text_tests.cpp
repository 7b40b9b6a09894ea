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
      "a",      "b",       "Z",      "1",          "9",      " ",      " ",      "\n",
      "\r",     "\t",      ".",      ",",          "'",      "_",      ":",      ";",
      "-",      "e\u0301", "\u0301", "\u00e9",     "\u200b", "\u00ad", "\ufeff", "\u3000",
      "\u00a0", "\u2029",  "\u4e2d", "\u6587",     "\u3002", "\uff1f", "\ufb01", "\u00df",
      "\u200d", "\u202e",  "\x01",   "\U0001F600", "\uac00", "\u1100", "\u1161"};
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
  BOOST_TEST(clean("  a  b\t c  ") == "a b c");
  BOOST_TEST(clean("a \r\n b") == "a\nb");
  BOOST_TEST(clean("a\r\rb") == "a\n\nb");
  BOOST_TEST(clean("a\n \n\n\n b\n") == "a\n\nb");
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
             "if x:\n    go()\n\n\n\tend");
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
  NormalisedKey("\xe4\xb8 \xff");
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

BOOST_AUTO_TEST_CASE(keys_ignore_case_width_spacing_and_closing_punctuation) {
  BOOST_TEST(NormalisedKey("  What is\n NUDGE?! ") == "what is nudge");
  BOOST_TEST(NormalisedKey("什么是 ＮＵＤＧＥ？") == NormalisedKey("什么是 nudge"));
  BOOST_TEST(NormalisedKey("caf\u00e9") == NormalisedKey("CAFE\u0301."));
}

BOOST_AUTO_TEST_CASE(keys_tell_apart_what_differs_in_more) {
  BOOST_TEST(NormalisedKey("what is C#") != NormalisedKey("what is C"));
  BOOST_TEST(NormalisedKey("what is C++") != NormalisedKey("what is C"));
  BOOST_TEST(NormalisedKey("?") != NormalisedKey("!"));
  BOOST_TEST(NormalisedKey("1.5") != NormalisedKey("15"));
}

BOOST_AUTO_TEST_CASE(the_key_of_a_key_is_itself) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    const std::string key = NormalisedKey(RandomText(seed, 1 + seed % 30));
    BOOST_REQUIRE_EQUAL(NormalisedKey(key), key);
  }
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
