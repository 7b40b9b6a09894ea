// What respond asks of the models: Gathered -> [respond] -> Plan -> [executor] -> Outcome.
//
// Plain values. Every job names its place in the log; what it needs from earlier jobs (an adapter
// version, the text of an answer) it names by Version or Sequence, never by content, so that
// planning never waits for a model. Dependencies point backwards in the log only.
#pragma once

#include <memory>
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
  uint64_t seed = 0;   // from the event's options, or from tenant, source and id
  int64_t offset = 0;  // of the question, for who follows its answer
};

// Whose adapter it is within its tenant: a user's, or, where the tenant learns as one, the
// tenant's, whose name here is empty (adapt.scope).
using LearnerId = std::string;

// A place in the tree of a tenant's learning (lineage.h): 0 is the base model, any other the event
// that led there, 1 + its Sequence::value.
using LearningPlace = uint64_t;
inline LearningPlace LearningPlaceOf(Sequence at) {
  return at.value + 1;
}

// What an event changes in the adapter.
struct Step {
  uint64_t number = 0;           // of the tenant: 1, 2, ...; 0: none, what follows is only kept
  std::optional<Version> makes;  // the version that this step leads to
  bool snapshot = false;         // the version is written as a snapshot; its receipt waits for it
};

// One thing to learn from: the prompt as shown, what the model said, what the user made of it.
struct LoggedExample {
  std::vector<ChatMessage> chat;
  std::variant<Sequence, std::string> shown;  // an answer of nudge's own, or one given elsewhere
  std::optional<std::string> correction;
  double reward = 0;  // -1..1
  // For people, kept with the lesson and not learnt: what the user said of it, and how much of the
  // chat's end is the question itself.
  std::string comment;
  uint64_t question_bytes = 0;
  bool admitted = true;  // false: kept, in case that it is admitted after all
  std::string teacher;   // who gave the feedback, else who asked; may be empty
  std::string source;    // of the event
};

// Goes on from a place: what counts there is learnt again from the nearest checkpoint before it.
struct Return {
  std::vector<LearningPlace>
      path;  // from the start to the place: an import or nothing, then lessons
  std::vector<LearningPlace>
      changed;  // places whose path is not what it was: no checkpoint of theirs holds
};
struct Import {
  std::shared_ptr<const AdapterVersion> version;
};

// A change of an adapter of the tenant. Lessons of one tenant are computed in log order.
struct Lesson {
  std::variant<LoggedExample, Return, Import> what;
  Step step;
  Version parent = 0;                  // what step.makes resolves to if the lesson fails
  std::vector<LearningPlace> dropped;  // places that nothing leads to any more, before all else
  // Of an example that replaces an earlier lesson: comes first. Its path ends at the example, where
  // that is admitted.
  std::optional<Return> behind = {};
  LearnerId learner = {};     // whose adapter it changes
  bool ends_learner = false;  // of a return to nothing: all that is kept of the learner goes
};

// respond's decision on one event. The outcome is complete but for what the named jobs supply.
struct Plan {
  Outcome outcome;
  std::optional<Generate> generate;       // supplies text, adapter_digest and token counts
  std::optional<Sequence> answer_of;      // a cache hit: the same, from the answer to this query
  std::vector<Lesson> lessons;            // by learner, in their order
  bool waits_for_lessons = false;         // the outcome needs their results (import, snapshot)
  std::vector<Sequence> retired;          // answers that nothing can refer to any more
  std::vector<Version> versions_dropped;  // that no later event can ask for
  bool forgets = false;  // a forget or a reset: what was read of the tenant's texts is not kept
};

}  // namespace nudge
