// labels: unit
#include "stages/lexical.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "stages/hash.h"

using namespace nudge;

namespace {

using Terms = std::vector<std::string>;

Terms RandomTerms(uint64_t seed, size_t count) {
  Terms terms;
  for (size_t i = 0; i < count; ++i) {
    const double x = UniformAt(seed, i);
    terms.push_back("t" + std::to_string(static_cast<int>(x * x * 40)));
  }
  return terms;
}

// BM25 as the header states it, term by term over all chunks.
std::map<uint32_t, double> ObviousScores(const std::map<uint32_t, Terms>& chunks,
                                         const Terms& query, double k1, double b) {
  double total = 0;
  for (const auto& [slot, terms] : chunks) total += static_cast<double>(terms.size());
  const double n = static_cast<double>(chunks.size());
  std::map<uint32_t, double> scores;
  for (const std::string& term : std::set<std::string>(query.begin(), query.end())) {
    double df = 0;
    for (const auto& [slot, terms] : chunks) df += std::count(terms.begin(), terms.end(), term) > 0;
    for (const auto& [slot, terms] : chunks) {
      const auto tf = static_cast<double>(std::count(terms.begin(), terms.end(), term));
      if (tf == 0) continue;
      const double length = static_cast<double>(terms.size()) / (total / n);
      scores[slot] += std::log(1 + (n - df + .5) / (df + .5)) * tf * (k1 + 1) /
                      (tf + k1 * (1 - b + b * length));
    }
  }
  return scores;
}

std::map<uint32_t, double> Found(const LexicalIndex& index, const Terms& query,
                                 LexicalScores& scores) {
  index.Search(query, scores);
  std::map<uint32_t, double> found;
  for (const uint32_t slot : scores.slots) {
    BOOST_REQUIRE(found.emplace(slot, scores.of_slot[slot]).second);
  }
  for (uint32_t slot = 0; slot < scores.of_slot.size(); ++slot) {
    BOOST_REQUIRE_EQUAL(scores.of_slot[slot] > 0, found.contains(slot));
  }
  return found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(words_with_joints_are_found_whole_and_in_parts) {
  const Terms terms = LexicalTerms("See example.com, it\u2019s read_me 1.5");
  const Terms expected = {"see", "example.com", "it's", "read_me", "1.5", "example", "com",
                          "it",  "s",           "read", "me",      "1",   "5"};
  BOOST_TEST(terms == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(names_that_end_in_signs_are_words_of_their_own) {
  const auto terms = [](const char* text) {
    std::string listed;
    for (const std::string& term : LexicalTerms(text)) listed += (listed.empty() ? "" : "|") + term;
    return listed;
  };
  BOOST_TEST(terms("C") == "c");
  BOOST_TEST(terms("C++") == "c++");
  BOOST_TEST(terms("C#, F#.") == "c#|f#");
  BOOST_TEST(terms("C\u266f") == "c#");
  BOOST_TEST(terms("\uff23\uff0b\uff0b") == "c++");
  BOOST_TEST(terms("C++17 C/C++") == "17|c|c++|c++");
  BOOST_TEST(terms("Notepad++") == "notepad|notepad++");
  BOOST_TEST(terms("a+b, 1 + 1, issue#12, # Title, +++") == "a|b|1|1|issue|12|title");
  BOOST_TEST(terms("\u4f7f\u7528C++") == "\u4f7f\u7528|c++");
}

BOOST_AUTO_TEST_CASE(identifiers_and_words_with_accents_are_found_in_every_spelling) {
  const auto shares_all = [](const char* asked, const char* text) {
    const Terms terms = LexicalTerms(text);
    const Terms wanted = LexicalTerms(asked);
    return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& term) {
      return std::count(terms.begin(), terms.end(), term) > 0;
    });
  };
  BOOST_TEST(shares_all("user by id", "Call getUserById(id)."));
  BOOST_TEST(shares_all("get user by id", "get_user_by_id"));
  BOOST_TEST(shares_all("http server config", "HTTPServerConfig.max_body_size"));
  BOOST_TEST(shares_all("getuserbyid", "getUserById"));
  BOOST_TEST(shares_all("resume", "Send your re\u0301sume\u0301."));
  BOOST_TEST(shares_all("istanbul", "\u0130STANBUL"));
  BOOST_TEST(shares_all("ISTANBUL", "\u0130stanbul"));
  BOOST_TEST(shares_all("\u0130stanbul", "\u0130STANBUL"));
  BOOST_TEST(shares_all("strasse", "Stra\u00dfe"));
  BOOST_TEST(shares_all("office", "o\ufb03ce"));
  BOOST_TEST(shares_all("malmo", "Malm\u00f6"));
  BOOST_TEST(!shares_all("\u00f6l", "ol"));
}

BOOST_AUTO_TEST_CASE(scores_are_those_of_the_formula_while_chunks_come_and_go) {
  LexicalIndex index;
  LexicalScores scores;
  std::map<uint32_t, Terms> chunks;
  for (uint64_t step = 0; step < 1500; ++step) {
    if (!chunks.empty() && UniformAt(1, step) < .45) {
      const auto gone =
          std::next(chunks.begin(), static_cast<ptrdiff_t>(RandomAt(2, step) % chunks.size()));
      index.Remove(gone->first);
      chunks.erase(gone);
    } else {
      const Terms terms = RandomTerms(step, RandomAt(3, step) % 30);
      BOOST_REQUIRE(chunks.emplace(index.Add(terms), terms).second);
    }
    BOOST_REQUIRE_EQUAL(index.chunks(), chunks.size());
    const Terms query = RandomTerms(step + 10000, 5);
    const auto expected = ObviousScores(chunks, query, 1.2, .75);
    const auto found = Found(index, query, scores);
    BOOST_REQUIRE_EQUAL(found.size(), expected.size());
    for (const auto& [slot, score] : expected) {
      BOOST_REQUIRE_CLOSE(found.at(slot), score, 1e-9);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_order_of_coming_changes_no_bit_of_a_score) {
  std::vector<Terms> chunks;
  for (uint64_t i = 0; i < 60; ++i) chunks.push_back(RandomTerms(i, 20));
  LexicalIndex forward;
  LexicalIndex backward;
  std::vector<uint32_t> forward_slots;
  std::vector<uint32_t> backward_slots(chunks.size());
  backward.Remove(backward.Add({"passing"}));
  for (const Terms& chunk : chunks) forward_slots.push_back(forward.Add(chunk));
  for (size_t i = chunks.size(); i-- > 0;) backward_slots[i] = backward.Add(chunks[i]);
  LexicalScores first;
  LexicalScores second;
  for (uint64_t i = 0; i < 50; ++i) {
    Terms query = RandomTerms(i + 500, 6);
    forward.Search(query, first);
    std::reverse(query.begin(), query.end());
    backward.Search(query, second);
    for (size_t c = 0; c < chunks.size(); ++c) {
      BOOST_REQUIRE_EQUAL(first.of_slot[forward_slots[c]], second.of_slot[backward_slots[c]]);
    }
  }
}

BOOST_AUTO_TEST_CASE(scores_can_be_reused_over_indexes_of_other_sizes) {
  LexicalIndex large;
  for (int i = 0; i < 10; ++i) large.Add({"x"});
  LexicalIndex small;
  small.Add({"y"});
  LexicalScores scores;
  BOOST_TEST(Found(large, {"x"}, scores).size() == 10U);
  BOOST_TEST(Found(small, {"x"}, scores).empty());
  BOOST_TEST(Found(small, {"y"}, scores).size() == 1U);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_when_all_chunks_are_gone) {
  LexicalIndex index;
  const uint32_t first = index.Add({"a", "b", "a"});
  const uint32_t second = index.Add({"b"});
  BOOST_TEST(index.terms() == 2U);
  index.Remove(first);
  BOOST_TEST(index.terms() == 1U);
  index.Remove(second);
  BOOST_TEST(index.terms() == 0U);
  BOOST_TEST(index.chunks() == 0U);
  LexicalScores scores;
  BOOST_TEST(Found(index, {"a", "b"}, scores).empty());
  BOOST_TEST(index.Add({"c"}) < 2U);
}

BOOST_AUTO_TEST_CASE(a_chunk_without_terms_is_never_found) {
  LexicalIndex index;
  index.Add({});
  LexicalScores scores;
  BOOST_TEST(Found(index, {"a"}, scores).empty());
  index.Add({"a"});
  BOOST_TEST(Found(index, {"a"}, scores).size() == 1U);
}
