// BM25 over the chunks of one tenant: an inverted index that chunks enter and leave one by one.
//
// Plain value, one thread at a time. Scores depend on which chunks are in, never on the order in
// which they came or on the slots they lie in: counts are integers, and a chunk's score is summed
// over the query's terms in byte order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nudge {

// What is indexed of a text, and looked for of a question: its Words (folded by case and width); of
// a word with joints inside (a.file, it's, snake_case, name@host) also the parts; of an identifier
// its CaseParts; of a word with accents also the word WithoutMarks; names that end in signs (c++,
// c#, notepad++) with these. For Chinese the dictionary's words: measured better than single
// characters, pairs, or any mix of the three.
std::vector<std::string> LexicalTerms(std::string_view text);

// The outcome of a search. Reusing one over searches, of several tenants too, saves its memory.
struct LexicalScores {
  std::vector<uint32_t> slots;  // that have a term of the query, in no order that means anything
  std::vector<double> of_slot;  // by slot: above 0 for those, 0 for all others
};

class LexicalIndex {
 public:
  struct Options {
    double k1 = 1.2;  // 0 or more: how slowly a repeated term saturates
    double b = .75;   // 0..1: how much a long chunk is discounted
  };

  LexicalIndex() : LexicalIndex(Options()) {}
  explicit LexicalIndex(const Options& options) : options_(options) {}

  // Puts a chunk in and returns its slot: small numbers, of removed chunks reused.
  uint32_t Add(const std::vector<std::string>& terms);

  // Requires a slot that Add returned and that was not removed since.
  void Remove(uint32_t slot);

  // Replaces `scores` by those of the chunks that have a term of the query:
  // the sum over the query's distinct terms of
  //   ln(1 + (N - df + .5) / (df + .5)) * tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length))
  // (Robertson, Zaragoza 2009, with the idf that is never negative). Bound by the postings of the
  // query's terms: about 2 ns each. `seen`, by slot: others are as if they were not in, to N, df
  // and mean length, too; it has an entry for each slot.
  void Search(const std::vector<std::string>& terms, LexicalScores& scores,
              const std::vector<uint8_t>* seen = nullptr) const;

  size_t chunks() const { return chunks_; }
  size_t terms() const { return term_ids_.size(); }

 private:
  struct Posting {
    uint32_t slot;
    uint32_t count;  // of the term in the chunk
  };
  struct Term {
    const std::string* text = nullptr;  // the key in term_ids_; null: the id is free
    std::vector<Posting> postings;      // in any order
  };

  uint32_t IdOf(const std::string& term);
  std::vector<const Term*> Find(const std::vector<std::string>& terms) const;

  Options options_;
  std::unordered_map<std::string, uint32_t> term_ids_;  // looked up, never walked
  std::vector<Term> terms_;                             // by id
  std::vector<uint32_t> free_ids_;
  std::vector<std::vector<uint32_t>> term_ids_of_;  // by slot; distinct
  std::vector<uint32_t> lengths_;                   // by slot, in terms
  std::vector<uint32_t> free_slots_;
  size_t chunks_ = 0;
  uint64_t total_length_ = 0;
};

}  // namespace nudge
