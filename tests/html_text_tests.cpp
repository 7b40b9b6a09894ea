// labels: unit
#include <boost/test/unit_test.hpp>

#include <string>
#include <string_view>

#include "connectors/http/html_text.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

std::string TextIn(std::string_view html) {
  const Result<HtmlText> page = TextOfHtml(html);
  BOOST_REQUIRE_MESSAGE(page.ok(), (page.ok() ? "" : page.error().message));
  return page->text;
}

std::string Repeated(std::string_view piece, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += piece;
  return text;
}

BOOST_AUTO_TEST_CASE(a_page_is_its_title_and_what_people_read) {
  const Result<HtmlText> page = TextOfHtml(
      "<!doctype html><html><head><title> The\n heron </title><style>p { color: red }</style>"
      "<script>alert('no')</script></head><body><h1>Herons</h1><p>It weighs\n  <b>13.6</b>&nbsp;kg."
      "</p><!-- a remark --><p>Fish &amp; frogs &lt;3.</p></body></html>");
  BOOST_REQUIRE(page.ok());
  BOOST_TEST(page->title == "The heron");
  BOOST_TEST(page->text == "# Herons\n\nIt weighs 13.6\u00a0kg.\n\nFish & frogs <3.");
}

BOOST_AUTO_TEST_CASE(lists_tables_and_breaks_keep_their_shape) {
  BOOST_TEST(TextIn("<h2>Prices</h2><ul><li>one<li>two <i>three</i></ul>after") ==
             "## Prices\n\n- one\n- two three\n\nafter");
  BOOST_TEST(TextIn("<table><tr><th>Lamp<th>Euro</tr><tr><td>3</td> <td>30</td></tr></table>") ==
             "Lamp | Euro\n3 | 30");
  BOOST_TEST(TextIn("one<br>two<br/>three<hr>four") == "one\ntwo\nthree\n\nfour");
  BOOST_TEST(TextIn("<p>code:</p><pre>if (a)\n    b();\n</pre><p>done</p>") ==
             "code:\n\nif (a)\n    b();\n\n\ndone");
  BOOST_TEST(TextIn("<div>a</div><div>b</div><div><div>c</div></div>") == "a\nb\nc");
  BOOST_TEST(TextIn("a <img src=x.png alt=\"a heron\"> b<img src=y.png>c") == "a a heron bc");
}

BOOST_AUTO_TEST_CASE(what_is_not_shown_is_not_taken) {
  BOOST_TEST(TextIn("<p>seen<p hidden>no<p aria-hidden=true>no<p style='DISPLAY : none'>no"
                    "<p style='color:red;visibility: hidden'>no<p>seen too") == "seen\n\nseen too");
  BOOST_TEST(TextIn("<script>a()</script><noscript>no</noscript><template><p>no</template>"
                    "<iframe src=x>no</iframe><svg><text>no</text></svg><style>no</style>yes") ==
             "yes");
  BOOST_TEST(TextIn("<div hidden><pre>a\nb</pre></div><p>x   y</p>") == "x y");
  BOOST_TEST(TextIn("<body onload=\"steal()\"><a href=\"javascript:steal()\">a link</a>") ==
             "a link");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_page_is_mended_as_browsers_do) {
  BOOST_TEST(TextIn("<b><i>mis</b>nested</i> <p>un<p>closed & <q") ==
             "misnested\n\nun\n\nclosed &");
  BOOST_TEST(TextIn("just text") == "just text");
  BOOST_TEST(TextIn("") == "");
  BOOST_TEST(TextIn("<p>&#x110000; &#0; &unknown;") == "\ufffd \ufffd &unknown;");
  BOOST_TEST(TextIn(std::string_view("a\0b", 3)) == "ab");
  BOOST_TEST(TextIn("\xef\xbb\xbf<p>behind a mark of byte order") == "behind a mark of byte order");
}

BOOST_AUTO_TEST_CASE(a_page_that_nests_without_end_is_refused) {
  for (const char* tag : {"<div>", "<b>", "<table><td>", "<font color=a>"}) {
    const Result<HtmlText> page = TextOfHtml(Repeated(tag, 100'000));
    BOOST_REQUIRE(!page.ok());
    BOOST_TEST((page.error().code == Code::kTooLarge));
  }
  BOOST_TEST(TextIn(Repeated("<div>", 400) + "deep") == "deep");
}

BOOST_AUTO_TEST_CASE(a_short_page_with_a_huge_tree_is_refused) {
  std::string page = "<p>";
  for (int i = 0; i < 400; ++i) page += "<b id=" + std::to_string(i) + ">";
  page += Repeated("<p>x", 50'000);  // each opens all of them again
  const Result<HtmlText> text = TextOfHtml(page);
  BOOST_REQUIRE(!text.ok());
  BOOST_TEST((text.error().code == Code::kTooLarge));
  BOOST_TEST(text.error().message.find("128 MiB") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_long_page_is_read) {
  const std::string text = TextIn(Repeated("<p>Herons fish.</p>\n", 20'000));
  BOOST_TEST(text.size() == 20'000 * 14 - 2);
  BOOST_TEST(IsUtf8(text));
}

}  // namespace
}  // namespace nudge
