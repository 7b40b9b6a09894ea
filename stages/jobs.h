// What respond asks of the models: Gathered -> [respond] -> Plan -> [executor] -> Outcome.
//
// Plain values. Every job names its place in the log; what it needs from earlier jobs (an adapter
// version, the text of an answer) it names by Version or Sequence, never by content, so that
// planning never waits for a model. Dependencies point backwards in the log only.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"

namespace nudge {

// An answer to be drawn from the language model with a version of the tenant's adapter.
struct Generate {
  std::vector<ChatMessage> chat;  // fits the window with decoding.max_tokens to spare
  Version adapter = 0;
  Decoding decoding;
  uint64_t seed = 0;  // from the event's options, or from tenant, source and id
};

// One thing to learn from: the prompt as shown, what the model said, what the user made of it.
struct LoggedExample {
  std::vector<ChatMessage> chat;
  std::variant<Sequence, std::string> shown;  // an answer of nudge's own, or one given elsewhere
  std::optional<std::string> correction;
  double reward = 0;                // -1..1
  std::string user;                 // for nudge.forget
  std::set<std::string> documents;  // shown in the chat; for nudge.forget
};

struct Rollback {
  Version to = 0;
};
struct Reset {};
struct Import {
  std::string uri;
  std::string sha256;
};
// Rebuilds the adapter from the tenant's journal of examples without these.
struct Unlearn {
  std::string user;  // one of the two is set
  std::string document_id;
};

// A change of the tenant's adapter. Lessons of one tenant are computed in log order.
struct Lesson {
  std::variant<LoggedExample, Rollback, Reset, Import, Unlearn> what;
  Step step;
  Version parent = 0;  // what step.makes resolves to if the lesson fails
};

// respond's decision on one event. The outcome is complete but for what the named jobs supply.
struct Plan {
  Outcome outcome;
  std::optional<Generate> generate;   // supplies text, adapter_digest and token counts
  std::optional<Sequence> answer_of;  // a cache hit: the same, from the answer to this query
  std::optional<Lesson> lesson;
  bool waits_for_lesson = false;  // the outcome needs the lesson's result (import, snapshot)
  std::vector<Sequence> retired;  // answers that nothing can refer to any more
};

}  // namespace nudge
