// What was shown and asked lately, of one tenant: what feedback can still speak of.
//
//   respond -> ShownAnswers: the chat behind each answer;   AnswerRecords: which answer a query got
//
// One answer's chat is kept once, however many records and cache entries refer to it. When none
// does any more, Release names it as retired: its text may go once the plan at hand and those
// before it are done. respond owns them; one call at a time, in log order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

// An answer is named by the Sequence of the query that it was generated for.
using AnswerId = uint64_t;

// What an answer was generated from.
struct ShownChat {
  std::vector<ChatMessage> chat;
  std::set<std::string> documents;
  std::set<std::string> people;  // whose words it holds: who asked, owners of documents, of shots
  std::set<EventName> events;    // and of which events: the question, those behind shots
  uint64_t question_bytes = 0;   // the question is the end of the chat
  RestsOn rests_on;              // the lists of all that is shown, and the documents behind shots
};

class ShownAnswers {
 public:
  static constexpr char kKind[] = "shown_chat";  // of its entries in a saved state

  void Put(AnswerId answer, const ShownChat& shown);
  std::optional<ShownChat> Find(AnswerId answer) const;

  void Hold(AnswerId answer) { ++references_[answer]; }
  // One reference less; the last takes the answer with it, to `retired`.
  void Release(AnswerId answer, std::vector<Sequence>& retired);

  // Those that hold words of the forgotten user, document or event. Walks over all answers, without
  // a copy.
  std::set<AnswerId> Concerned(const Forget& forget) const;

  void Save(const std::string& tenant, Changes& changes);
  Result<Nothing> Load(const Change& entry);

 private:
  Table<AnswerId, std::string> answers_;  // as they are saved: one block of memory each
  std::unordered_map<AnswerId, uint32_t> references_;  // derived; only ever looked up
};

// Names the place of an answer in the cache: question (128 bits of SHA-256), and the prompt,
// decoding and seed (64 bits). Zeros: none.
using CacheKey = std::array<uint64_t, 3>;

class AnswerRecords {
 public:
  static constexpr char kKind[] = "query_record";

  struct Record {  // of a query
    AnswerId answer = 0;
    std::string user;
    CacheKey cache_key{};
    EventName event = 0;  // the query
  };

  const Record* Find(Sequence query) const { return records_.Find(query.value); }

  // The record joins the last `most`; the oldest beyond them lets go of its answer.
  void Remember(Sequence query, Record record, size_t most, ShownAnswers& shown,
                std::vector<Sequence>& retired);

  // Removes the records of these answers, and of queries of the forgotten user or event. How many.
  size_t Purge(const std::set<AnswerId>& answers, const Forget& forget, ShownAnswers& shown,
               std::vector<Sequence>& retired);

  void Save(const std::string& tenant, Changes& changes);
  Result<Nothing> Load(const Change& entry, ShownAnswers& shown);

 private:
  Table<uint64_t, Record> records_;  // by the query's Sequence
};

}  // namespace nudge
