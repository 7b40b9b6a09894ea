// What a nudge.forget means for the log: forgets, records -> [Forgotten] -> which of them go.
//
// As docs/EVENTS.md has it, of the same tenant and from before the forget alone:
//   a user       questions, feedback and examples of theirs, and all feedback about their
//                questions; with `documents` their upserts. Commands and deletes stay: they hold
//                names and an operator's will, and without them a replay would bring back what they
//                took away
//   an event     that question, feedback or example, and all feedback about it
//   a conversation  its questions, and all feedback about them
//   a document   its upserts
// An outcome goes with its record, and one that cites a forgotten document goes, too. Of a record
// that is no event, what can be read of its head counts.
//
// Every record is to be Seen before any is asked about. It keeps names of the questions and
// documents that go: memory as large as what is forgotten, not as the log. One thread.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "connectors/codec.h"

namespace nudge {

class Forgotten {
 public:
  explicit Forgotten(const EventLimits& limits) : limits_(limits) {}

  // The forget of this record; false: it is none.
  bool Add(int64_t offset, std::string_view record);

  void See(int64_t offset, std::string_view record);
  bool Concerns(int64_t offset, std::string_view record) const;

  // By what the outcome says alone, for those whose records are not there any more.
  bool Concerns(const RecordedOutcome& outcome) const;

 private:
  enum class Kind : uint8_t { kWords, kDocument, kCommand };

  struct Subject {  // of a record, what decides
    TenantId tenant;
    std::string user;
    EventName event = 0;
    Kind kind = Kind::kWords;
    std::string document_id;
    EventName about = 0;  // the question that feedback speaks of; 0: none
    bool is_question = false;
    std::string conversation_id;
  };
  struct One {
    int64_t offset = 0;
    TenantId tenant;
    Forget forget;
    EventName event = 0;                      // of event_id; 0: none
    std::unordered_set<EventName> questions;  // of the user or conversation
    std::set<std::string> documents;          // ids
  };

  static Kind KindOf(std::string_view type);
  Subject SubjectOf(std::string_view record) const;
  static bool IsTheirs(const One& one, const Subject& subject);
  static bool IsOfConversation(const One& one, const Subject& subject);

  const EventLimits limits_;
  std::vector<One> forgets_;
};

}  // namespace nudge
