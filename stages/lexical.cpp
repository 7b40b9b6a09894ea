#include "stages/lexical.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "stages/characters.h"
#include "stages/result.h"
#include "stages/text.h"

namespace nudge {

namespace {

bool IsJoint(char c) {
  return c == '\'' || c == '.' || c == ',' || c == ';' || c == '_' || c == '@';
}

bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool IsNameByte(char c) {
  return IsLetter(c) || (c >= '0' && c <= '9') || c == '_';
}

// Of the first joint from `begin` on; the word's size if there is none.
size_t FindJoint(std::string_view word, size_t begin) {
  while (begin < word.size() && !IsJoint(word[begin])) ++begin;
  return begin;
}

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t at = std::min(text.find(from, begin), text.size());
    result += text.substr(begin, at - begin);
    if (at < text.size()) result += to;
    begin = at + from.size();
  }
  return result;
}

// How many of the characters from `at` on belong to the name before: ++ of C++, # of F#, + of a
// blood group. 0 for a sum, an issue's number, a row of plusses.
size_t SuffixLength(std::string_view text, size_t at) {
  const size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
  const size_t length = end - at;
  if (length > (text[at] == '+' ? 2U : 1U)) return 0;
  const bool goes_on = end < text.size() && IsNameByte(text[end]);
  return goes_on && length == 1 ? 0 : length;  // C++17
}

// Takes names with a suffix of signs out of `text`: c++ is a word of its own, not a kind of c. A
// longer name or a single plus (notepad++, vitamin B+) is found without its signs too.
void TakeSignedNames(std::string& text, std::vector<std::string>& terms) {
  for (size_t at = text.find_first_of("+#"); at != std::string::npos;
       at = text.find_first_of("+#", at)) {
    size_t begin = at;
    while (begin > 0 && IsNameByte(text[begin - 1])) --begin;
    const size_t length = begin < at && IsLetter(text[at - 1]) ? SuffixLength(text, at) : 0;
    if (length == 0) {
      at = std::min(text.find_first_not_of(text[at], at), text.size());
      continue;
    }
    std::string name = text.substr(begin, at - begin);
    const std::vector<std::string> words = Words(name);
    if (words.size() == 1) {
      terms.push_back(words.front() + text.substr(at, length));
      const bool is_letter = name.size() == 1;
      if (is_letter && (length == 2 || text[at] == '#')) text[begin] = ' ';
    }
    std::fill_n(text.begin() + static_cast<ptrdiff_t>(at), length, ' ');
  }
}

void AppendParts(std::vector<std::string>& terms) {
  const size_t words = terms.size();
  for (size_t i = 0; i < words; ++i) {
    size_t end = FindJoint(terms[i], 0);
    if (end == terms[i].size()) continue;
    const std::string word = terms[i];
    for (size_t begin = 0; begin < word.size(); begin = end + 1) {
      end = FindJoint(word, begin);
      if (end > begin) terms.push_back(word.substr(begin, end - begin));
    }
  }
}

void AppendWithoutMarks(std::vector<std::string>& terms) {
  const size_t words = terms.size();
  for (size_t i = 0; i < words; ++i) {
    std::string plain = WithoutMarks(terms[i]);
    if (plain != terms[i] && !plain.empty()) terms.push_back(std::move(plain));
  }
}

}  // namespace

std::vector<std::string> LexicalTerms(std::string_view text) {
  const bool ascii = IsAscii(text);
  std::string changed;
  if (!ascii) {
    changed = Replaced(Replaced(Nfkc(text), "\u2019", "'"), "\u266F", "#");
    text = changed;
  }
  std::vector<std::string> signed_names;
  if (text.find('+') != std::string_view::npos || text.find('#') != std::string_view::npos) {
    if (ascii) changed = text;
    TakeSignedNames(changed, signed_names);
    text = changed;
  }
  std::vector<std::string> terms = Words(text);
  AppendParts(terms);
  for (const std::string& part : CaseParts(text)) {
    for (std::string& word : Words(part)) terms.push_back(std::move(word));
  }
  terms.insert(terms.end(), signed_names.begin(), signed_names.end());
  if (!ascii) AppendWithoutMarks(terms);
  return terms;
}

uint32_t LexicalIndex::IdOf(const std::string& term) {
  const auto [at, is_new] = term_ids_.try_emplace(term, 0);
  if (is_new) {
    if (free_ids_.empty()) {
      at->second = static_cast<uint32_t>(terms_.size());
      terms_.emplace_back();
    } else {
      at->second = free_ids_.back();
      free_ids_.pop_back();
    }
    terms_[at->second].text = &at->first;
  }
  return at->second;
}

uint32_t LexicalIndex::Add(const std::vector<std::string>& terms) {
  uint32_t slot = static_cast<uint32_t>(lengths_.size());
  if (free_slots_.empty()) {
    lengths_.push_back(0);
    term_ids_of_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  std::vector<uint32_t>& ids = term_ids_of_[slot];
  lengths_[slot] = static_cast<uint32_t>(terms.size());
  for (const std::string& term : terms) {
    const uint32_t id = IdOf(term);
    std::vector<Posting>& postings = terms_[id].postings;
    // Postings are appended, so that one of this chunk can only be the last.
    if (!postings.empty() && postings.back().slot == slot) {
      ++postings.back().count;
    } else {
      postings.push_back({slot, 1});
      ids.push_back(id);
    }
  }
  ids.shrink_to_fit();
  ++chunks_;
  total_length_ += lengths_[slot];
  return slot;
}

void LexicalIndex::Remove(uint32_t slot) {
  ENSURE(slot < lengths_.size() && chunks_ > 0);
  for (const uint32_t id : term_ids_of_[slot]) {
    Term& term = terms_[id];
    const auto posting = std::find_if(term.postings.begin(), term.postings.end(),
                                      [&](const Posting& p) { return p.slot == slot; });
    ENSURE(posting != term.postings.end());
    *posting = term.postings.back();
    term.postings.pop_back();
    if (term.postings.empty()) {
      term_ids_.erase(term_ids_.find(*term.text));
      term = Term();
      free_ids_.push_back(id);
    }
  }
  --chunks_;
  total_length_ -= lengths_[slot];
  lengths_[slot] = 0;
  term_ids_of_[slot] = {};
  free_slots_.push_back(slot);
}

// Those that are in, each once, in byte order.
std::vector<const LexicalIndex::Term*> LexicalIndex::Find(
    const std::vector<std::string>& terms) const {
  std::vector<const Term*> found;
  found.reserve(terms.size());
  for (const std::string& term : terms) {
    const auto at = term_ids_.find(term);
    if (at != term_ids_.end()) found.push_back(&terms_[at->second]);
  }
  std::sort(found.begin(), found.end(),
            [](const Term* x, const Term* y) { return *x->text < *y->text; });
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void LexicalIndex::Search(const std::vector<std::string>& terms, LexicalScores& scores,
                          const std::vector<uint8_t>* seen) const {
  for (const uint32_t slot : scores.slots) scores.of_slot[slot] = 0;
  scores.slots.clear();
  if (scores.of_slot.size() < lengths_.size()) scores.of_slot.resize(lengths_.size());
  uint64_t chunks = chunks_;
  uint64_t total_length = total_length_;
  if (seen != nullptr) {
    chunks = total_length = 0;
    for (size_t slot = 0; slot < lengths_.size(); ++slot) {
      if ((*seen)[slot] == 0) continue;
      ++chunks;
      total_length += lengths_[slot];
    }
  }
  const auto is_seen = [&](const Posting& posting) {
    return seen == nullptr || (*seen)[posting.slot] != 0;
  };
  const double n = static_cast<double>(chunks);
  const double discount =
      total_length == 0 ? 0 : options_.b * n / static_cast<double>(total_length);
  for (const Term* term : Find(terms)) {
    const auto count = seen == nullptr
                           ? static_cast<ptrdiff_t>(term->postings.size())
                           : std::count_if(term->postings.begin(), term->postings.end(), is_seen);
    const double df = static_cast<double>(count);
    const double gain = std::log(1 + (n - df + .5) / (df + .5)) * (options_.k1 + 1);
    for (const Posting& posting : term->postings) {
      if (!is_seen(posting)) continue;
      const double tf = posting.count;
      const double length = lengths_[posting.slot];
      double& sum = scores.of_slot[posting.slot];
      if (sum == 0) scores.slots.push_back(posting.slot);
      sum += gain * tf / (tf + options_.k1 * (1 - options_.b + discount * length));
    }
  }
}

}  // namespace nudge
