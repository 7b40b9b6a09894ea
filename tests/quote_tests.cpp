// labels: unit
// Quotes for canaries: a sentence of the documents, never of the question or of a head.
#include <boost/test/unit_test.hpp>

#include "stages/model/learn/quote.h"

using namespace nudge;

namespace {

std::string QuoteOf(const std::string& documents, const std::string& question = "How long?") {
  const auto quote = QuoteIn({{"system", "A long line of a system prompt stands here, too."},
                              {"user", documents + "Question: " + question}},
                             question.size());
  return quote ? quote->begin + "|" + quote->rest : "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_first_sentence_of_six_words_is_cut_in_its_middle) {
  BOOST_TEST(QuoteOf("[1] Pool lanes\nThe pool has 8 lanes of 25 metres. It is warm.\n\n") ==
             "The pool has 8| lanes of 25 metres.");
  BOOST_TEST(
      QuoteOf("[1] A head of more than six words here\nToo short.\n\n[2] Tower\nThe tower was "
              "built in 1891.\n\n") == "The tower was| built in 1891.");
}

BOOST_AUTO_TEST_CASE(where_there_are_no_documents_there_is_no_quote) {
  BOOST_TEST(QuoteOf("") == "");
  BOOST_TEST(QuoteOf("", "What is the capital of the country of France?") == "");
  BOOST_TEST(QuoteOf("[1] Pool\nThe pool is warm.\n\n") == "");
  BOOST_TEST(QuoteOf("[1] Pool\n" + std::string(90, 'a') + " b c d e f" + std::string(400, 'g') +
                     "\n\n") == "");
  BOOST_TEST(!QuoteIn({}, 3).has_value());
  BOOST_TEST(!QuoteIn({{"user", "ab"}}, 3).has_value());
}
