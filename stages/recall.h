// The gate in front of every stage with state: Prepared -> [Recall] -> Resolved | Error.
//
// What a branch would apply is refused here or not at all, so that no branch behind it applies an
// event that another branch rejects: limits of tenants, unknown prompts, feedback about queries
// that are unknown or too old. Duplicates are recognised (not refused: they get a receipt), an
// identity that comes again with other content is refused, and feedback learns which query it is
// about.
//
// Feedback learns as well what its user (event source and user) has said before of the same answer
// (the same query, or inline the same query and completion), since the last word counts: the
// branches behind replace what the earlier ones did. After replacements_max replacements further
// words teach nothing. Signals alone do not replace a rating or a correction: they teach nothing
// behind one. What was said is remembered as long as the identity of its last event.
// Feedback without a user replaces nothing.
//
// A document is of the source of its last upsert: a sync of a source takes away what it does not
// name. A conversation is the questions that name it, as long as their identities are remembered: a
// forget of it gets their names.
//
// An event's identity (tenant, source, id) is remembered when it is let through, with a hash of its
// content: the tenant's last identities_per_tenant, and with keeps_commands as many of commands
// alone. An event refused here leaves nothing behind, not even its identity: sent again, it is
// judged again, so that a limit raised or a prompt created in between lets it through. A question
// that respond finds too large for its prompt was let through: its identity stays.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "stages/events.h"
#include "stages/recall_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Recall {
 public:
  explicit Recall(RecallOptions options = {});

  // prepared: not null. Errors, after which the state is as before:
  //   kChangedEvent   the identity of an earlier event with other content
  //   kTenantLimit    a limit of the options
  //   kInvalidEvent   a command that names a user whose adapter is not their own, or names none
  //                   where users have their own (adapters_by_user)
  //   an import's     what its adapter was refused for when it was read
  //   kUnknownPrompt  a query names a prompt that is not there
  //   kUnknownQuery   feedback about an event that was never seen, was seen so long ago that its
  //                   identity is forgotten, or is no query
  //   kQueryTooOld    feedback about a query before the last queries_per_tenant
  Result<Resolved> Apply(Sequence at, std::shared_ptr<const Prepared> prepared);

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  using Identity = std::array<uint64_t, 2>;  // SHA-256, cut
  struct IdentityHash {
    size_t operator()(const Identity& identity) const noexcept { return identity[0]; }
  };
  struct Seen {
    Identity identity;
    uint64_t sequence = 0;
    uint64_t query_number = 0;  // of the tenant: 1, 2, ...; 0: not a query
    uint64_t content = 0;       // Prepared's; 0: unknown, of a state that did not keep it
  };

  // The last events let through, by identity. Saved as runs: rows that are written once, each with
  // the events since the row before, and that go when all of theirs have left.
  class Window {
   public:
    const Seen* Find(const Identity& identity) const;
    void Add(const Seen& seen, size_t limit);
    uint64_t oldest() const { return events_.front().sequence; }  // requires one
    void Save(const std::string& tenant, const char* kind, Changes& changes);
    bool Load(const Change& entry, size_t limit);  // false: unreadable, and nothing has changed

   private:
    struct Run {
      uint64_t first = 0;
      uint64_t count = 0;
    };
    void Trim(size_t limit);

    std::deque<Seen> events_;
    uint64_t first_ = 0;                                              // number of events_.front()
    std::unordered_map<Identity, uint64_t, IdentityHash> number_of_;  // only ever looked up
    std::deque<Run> runs_;
    uint64_t saved_until_ = 0;
    std::vector<uint64_t> gone_;  // rows to erase
  };

  struct Known {  // a document
    uint32_t chunks = 0;
    std::string owner;   // the user of the upsert
    std::string source;  // of the upsert; empty: of a state that did not keep it
  };
  struct Question {  // of a conversation
    std::string conversation_id;
    std::string user;
    EventName event = 0;
  };
  // What one user said of one answer, oldest first; never empty.
  struct Said {
    std::string user;
    EventName query = 0;  // 0: of an inline answer
    struct Word {
      uint64_t sequence = 0;
      EventName event = 0;     // 0: forgotten; what came later may stand in its place
      bool outspoken = false;  // a rating or a correction: signals do not replace it

      bool stands() const { return outspoken && event != 0; }
    };
    std::vector<Word> words;
  };
  struct Tenant {
    Window window;
    Window commands;  // those of `window` and older ones, where they are kept
    uint64_t queries = 0;
    bool queries_changed = true;
    uint64_t chunks = 0;
    Table<std::string, Known> documents;  // by document_id
    Table<std::string, Nothing> prompts;  // without the default
    Table<uint64_t, Question> questions;  // by Sequence
    Table<Identity, Said> said;
    std::map<uint64_t, Identity> said_last;  // by the sequence of the last word; derived
  };

  std::optional<Error> RefuseDocument(const Tenant& tenant, const Prepared& prepared) const;
  std::optional<Error> RefusePrompt(const Tenant& tenant, const Event& event) const;
  std::optional<Error> RefuseCommand(const Event& event) const;
  Result<Sequence> ResolveQuery(const Tenant& tenant, const Event& event) const;
  void Accept(Tenant& tenant, Resolved& resolved) const;
  void RecallSaid(Tenant& tenant, Sequence at, Resolved& resolved) const;
  static std::vector<EventName> QuestionsOf(const Tenant& tenant,
                                            const std::string& conversation_id);
  static void ForgetQuestions(Tenant& tenant, const Forget& forget);
  static void ForgetSaid(Tenant& tenant, const Forget& forget);
  static void ForgetSaidOf(Tenant& tenant, const std::string& user, EventName event);
  static Identity IdentityOf(const TenantId& tenant, const std::string& source,
                             const std::string& id);

  RecallOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
