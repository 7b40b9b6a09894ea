// Earlier answers of one tenant that may be given again.
//
//   question, prompt, decoding -> CacheKey;   what an answer rests on today -> WhyNot -> hit or
//   miss
//
// By question, prompt, decoding and, where it is sampled, seed. Questions are the same if their
// texts and those of all turns before them are, byte for byte, once prepare cleaned them: white
// space around, line ends, invisible characters and the composition of accents are folded there,
// and nothing else is, since case, exponents, dots and closing marks can ask for something else. A
// hit needs the same passages in the same order (document, version, chunk), prompt version,
// few-shots and adapter version. Answers at temperature 0 are cached whatever the seed, sampled
// ones only under a seed that the event gave. An answer that is still being generated is a hit.
// Negative feedback or a correction ends its entry.
//
// Rights: a hit rests on what this asker was found alone, so whoever gets it may see all of it.
// What was found of documents that are not for everybody, and the filter, is part of the question:
// those who see other ones have places of their own, and hear nothing of each other's.
//
// respond owns it; one call at a time, in log order. Costs O(log n), Purge a walk over all entries.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "stages/answer_records.h"
#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class AnswerCache {
 public:
  static constexpr char kKind[] = "cached_answer";               // of its entries in a saved state
  static constexpr char kFirstTimeAsked[] = "first time asked";  // as WhyNot says it

  // Whether the answer to this question is a function of what its key and its basis name.
  static bool IsRepeatable(const Query& query, const Chosen& chosen) {
    return chosen.decoding.temperature == 0 || query.options.seed;
  }
  // Of a repeatable one. learner: the user whose own adapter answers, or empty; nobody else's
  // questions have a place with it.
  static CacheKey KeyOf(const Query& query, const Chosen& chosen, const Found& found,
                        const LearnerId& learner = {});

  // All that an answer rests on.
  struct Basis {
    std::string passages;  // their ids as bytes: compared often, read rarely
    std::string prompt_id;
    uint32_t prompt_version = 0;
    std::string decoding_name;
    Decoding decoding;
    uint64_t shots = 0;  // hash
    Version adapter = 0;
  };
  static Basis BasisOf(const Gathered& gathered, Version serving);

  // Empty: the entry at `key` holds. Else the first thing that is not as it was, for people.
  // may_name: whether the asker may hear of a document that is not found any more.
  using MayName = std::function<bool(const std::string& document_id)>;
  std::string WhyNot(const CacheKey& key, const Basis& today, const MayName& may_name) const;

  struct Hit {
    AnswerId answer = 0;
    uint32_t passages_shown = 0;  // the first ones of those found
  };
  // Requires an entry that holds. It is the last one used now.
  Hit Use(const CacheKey& key, Sequence at);

  // The answer takes its key's place; the entry that was not used for longest goes beyond `most`.
  void Put(const CacheKey& key, Basis basis, Hit answer, size_t most, ShownAnswers& shown,
           std::vector<Sequence>& retired);

  // Feedback rejects the answer: a reminder of why there is none stays. False: it is not here.
  bool Reject(const CacheKey& key, AnswerId answer, ShownAnswers& shown,
              std::vector<Sequence>& retired);

  // Removes the entries of these answers, and those that these versions of the adapter gave. How
  // many.
  size_t Purge(const std::set<AnswerId>& answers, const std::vector<Version>& versions,
               ShownAnswers& shown, std::vector<Sequence>& retired);

  void Save(const std::string& tenant, Changes& changes);
  Result<Nothing> Load(const Change& entry, ShownAnswers& shown);

 private:
  struct Entry {
    AnswerId answer = 0;
    bool rejected = false;  // by feedback
    uint64_t used = 0;      // sequence of the last query that it was made or hit by
    uint32_t passages_shown = 0;
    Basis basis;
  };

  void Erase(const CacheKey& key, ShownAnswers& shown, std::vector<Sequence>& retired);

  Table<CacheKey, Entry> entries_;
  std::map<uint64_t, CacheKey> by_last_use_;  // Entry::used -> key; derived
};

}  // namespace nudge
