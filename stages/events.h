// What flows along the graph's edges: events in, the types between stages, one outcome out.
//
//   bytes -> [decode] -> Event -> [prepare] -> Prepared -> [recall] -> Resolved
//     -> [index] Found, [adapt] Admission, [prompt] Chosen -> [respond] -> Outcome
//
// Plain values. Edges carry shared_ptr<const T>: whoever receives one may read it from any thread
// and nobody may change it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "stages/access.h"
#include "stages/chat.h"
#include "stages/filter.h"
#include "stages/metadata.h"
#include "stages/result.h"
#include "stages/snapshot.h"
#include "stages/vector.h"

namespace nudge {

using TenantId = std::string;

// Names an event inside the log, durably: its partition, and its number there, counted from 0
// without gaps. It is the same after a restart, since the count is part of the state. So one number
// orders a partition's messages, and lets one event speak of another.
struct Sequence {
  static constexpr int kOrdinalBits = 44;

  uint64_t value = 0;

  static constexpr Sequence Of(int32_t partition, uint64_t ordinal) {
    return {(static_cast<uint64_t>(partition) << kOrdinalBits) | ordinal};
  }
  constexpr int32_t partition() const { return static_cast<int32_t>(value >> kOrdinalBits); }
  constexpr uint64_t ordinal() const { return value & ((uint64_t{1} << kOrdinalBits) - 1); }
  friend constexpr auto operator<=>(const Sequence&, const Sequence&) = default;
};

// Names an event by its identity, source and id, where nobody has to read the name: 64 bits of
// their SHA-256.
using EventName = uint64_t;
EventName NameOf(const std::string& source, const std::string& id);

// ---- Events -------------------------------------------------------------------------------------

// How an answer is drawn. Unset fields of an event's options leave the policy's choice.
struct Decoding {
  double temperature = 0;     // 0 is greedy; 0..2
  double top_p = 1;           // (0, 1]
  uint32_t top_k = 0;         // 0: no cut
  uint32_t max_tokens = 128;  // 1..4096
  friend bool operator==(const Decoding&, const Decoding&) = default;
};

struct DocumentUpsert {
  std::string document_id;
  std::string text;
  std::string title;  // may be empty
  Metadata metadata;
  std::optional<Groups> access = {};  // who may see it; unset: everybody in the tenant
};

struct DocumentDelete {
  std::string document_id;
};

// A source holds just these documents: its others are taken away.
struct SourceSync {
  std::string source;  // empty: the event's own, which prepare fills in
  std::set<std::string> document_ids;
};

struct QueryOptions {
  std::optional<uint32_t> max_tokens;
  std::optional<double> temperature;
  std::optional<uint64_t> seed;
  std::optional<std::string> prompt_id;
};

struct Query {
  std::string text;  // the last turn
  QueryOptions options;
  std::vector<ChatMessage> messages = {};  // earlier turns of user and assistant, oldest first
  std::string conversation_id = {};        // may be empty; carried, and part of the content
  Groups groups = {};                      // the asker's
  std::optional<Filter> filter = {};       // of documents that the answer may rest on
};

// What a user did with an answer, beyond saying so.
struct Behaviour {
  bool clicked = false;
  bool copied = false;
  bool regenerated = false;
  std::optional<uint32_t> dwell_ms;
};

// Speaks of an answer: either of one that nudge gave (query_id, the id of the query event; its
// source if it differs from the feedback's own), or of one given elsewhere (inline).
struct Feedback {
  struct Inline {
    std::string query;
    std::string completion;
  };
  std::string query_id;      // empty: inline
  std::string query_source;  // empty: the feedback event's source
  std::optional<Inline> inline_answer;
  std::optional<double> rating;  // -1..1; "up" is 1, "down" is -1
  std::optional<std::string> correction;
  Behaviour behaviour;
  std::string comment;      // for people: carried with the lesson, no part of what is learnt
  bool takes_back = false;  // all that its user said of the answer before, and says nothing else
};

struct ExampleGiven {
  std::string query;
  std::string answer;
};

struct PromptUpsert {
  std::string prompt_id;
  std::string system;
  std::optional<Decoding> decoding;
};

struct PromptDelete {
  std::string prompt_id;
};

struct AdapterCommand {
  enum class Action : uint8_t { kRollback, kReset, kFreeze, kUnfreeze, kImport };
  Action action = Action::kFreeze;
  std::optional<uint32_t>
      version;            // rollback: to this version; unset: to the parent of the current
  std::string uri;        // import: path of a GGUF LoRA below the configured import folder
  std::string sha256;     // import: of that file
  std::string user = {};  // whose adapter, where users have their own; empty: the tenant's, all
};

struct Forget {
  std::string user;  // one of user, document_id, event_id and conversation_id is set
  std::string document_id;
  bool documents = false;  // of a user: the documents that are theirs go too
  std::string event_id;
  std::string event_source;  // of event_id; empty: the forget's own, which prepare fills in
  std::string conversation_id;
  std::vector<EventName> questions;  // of the conversation, in log order; recall fills them in

  // Whether events are forgotten, and not a user or document; and which, in log order.
  bool of_events() const { return !event_id.empty() || !conversation_id.empty(); }
  std::vector<EventName> Events() const;
};

struct Event {
  std::string id;  // CloudEvents identity is source + id
  std::string source;
  std::string time;  // any text, or empty; carried, never interpreted
  TenantId tenant;
  std::string user;  // may be empty
  std::variant<DocumentUpsert, DocumentDelete, Query, Feedback, ExampleGiven, PromptUpsert,
               PromptDelete, AdapterCommand, Forget, SourceSync>
      data;
};

// "nudge.query" and so on.
std::string_view TypeName(const Event& event);

// Whether it decides for others than who sends it: what an adapter or a prompt becomes, what is
// forgotten.
bool IsCommand(const Event& event);

// The events whose words are in what this event says: itself, and the question that feedback speaks
// of.
std::set<EventName> EventsBehind(const Event& event);

// ---- Between the stages -------------------------------------------------------------------------

// One stay of a partition with this process. Once it is over, messages still on their way through
// the graph change no state and get no outcome: the next owner starts from what was committed.
struct Stay {
  std::atomic<bool> over{false};
};

// Where an event came from; survives every error.
struct Origin {
  Sequence sequence;
  std::shared_ptr<Stay> stay;  // null: it never ends
  int64_t offset = 0;          // in the partition's log: Kafka's offset, or the line of a file
  std::string key;             // the log's key (Kafka), else empty
  std::string bytes;           // as received; of a record over the limits only its head
  std::string bytes_sha256;    // set where bytes is only the head: of all of them
  uint64_t bytes_total = 0;    // set where bytes is only the head
  // Set on a question of a report, which is not of the log: it ends in respond, which hands over
  // the chat that it would be answered from, and has no outcome.
  std::function<void(Result<std::vector<ChatMessage>>)> show_chat;
};

// A piece of a document: what is embedded, found and cited.
struct Chunk {
  std::string text;  // NFC, whitespace folded
  Vector vector;     // [dimension], L2 norm 1
};

// What feedback says, as numbers.
struct Signal {
  double reward = 0;  // -1..1; 0: nothing to learn from
  std::optional<std::string> correction;
};

struct AdapterVersion;  // stages/model/learn/teacher.h

// What an import brings: weights that were checked, or why they are refused.
struct Imported {
  std::shared_ptr<const AdapterVersion> version;
  std::optional<Error> refusal;
};

struct Prepared {
  Event event;                   // texts cleaned
  std::vector<Chunk> chunks;     // of a document upsert
  Vector query_vector;           // of a query or example; else empty
  std::optional<Signal> signal;  // of feedback
  Imported imported;             // of an import
  uint64_t content = 0;          // ContentOf the event as it came; 0: unknown
};

// Why feedback teaches nothing, and what its user said before stays.
enum class Unheard : uint8_t {
  kNo,
  kOneTooMany,   // its user has replaced that too often
  kSignalsOnly,  // of an answer that its user has rated or corrected
};

// recall's word on one event, in log order.
struct Resolved {
  std::shared_ptr<const Prepared> prepared;
  std::optional<Sequence> duplicate_of;  // same identity and content: no branch applies it
  std::optional<Sequence> about;         // feedback: the query that it speaks of
  // Feedback: what its user has said of the same answer before, oldest first. This replaces it.
  std::vector<Sequence> earlier = {};
  Unheard unheard = Unheard::kNo;  // feedback
  // Documents that this event takes away: by a delete, a forget, or a sync of their source.
  std::vector<std::string> removed = {};
  size_t synced = 0;  // of a sync: documents that it names and that are of its source
};

struct Passage {
  struct Copy {
    std::string document_id;
    uint32_t version = 0;
    std::string owner;
  };
  std::string document_id;
  uint32_t version = 0;  // of the document: 1, 2, ... counted per document_id
  std::string owner;     // the user of the upsert; may be empty
  uint32_t chunk = 0;    // of the document, from 0
  std::string title;
  std::string text;
  double score = 0;          // fused; with dense and lexical it explains the rank
  double dense = 0;          // cosine
  double lexical = 0;        // BM25
  std::vector<Copy> copies;  // other chunks that hold the same, by id and chunk
  // Of all these documents those that are not for everybody, by their lists, which let the asker
  // in.
  std::set<Groups> access = {};
};

// What rests on these passages: the documents that hold them, by their lists.
RestsOn RestOf(std::span<const Passage> passages);

// index -> prompt, gather
struct Found {
  std::vector<Passage> passages;  // of a query, best first
  uint32_t chunks_added = 0;      // of an upsert
  uint32_t chunks_removed = 0;    // of an upsert over an older version, a delete, a forget
  uint32_t document_version =
      0;  // of an upsert or delete: the version that this event made or ended
};

// A served adapter of one tenant: 0 is the base model, then 1, 2, ... in log order. Immutable.
using Version = uint32_t;

// adapt -> gather
struct Admission {
  bool offers = false;    // the event offers something to learn, and the adapter is not frozen
  bool admitted = false;  // what it offers is to be learnt: its user's share allows it
  bool frozen = false;    // after the event
  // Of a forget: offers that nothing but the share of the forgotten user had kept out, in log
  // order.
  std::vector<Sequence> admitted_after_all;
};

struct FewShot {
  std::string query;
  std::string answer;
  std::set<std::string> people;  // whose words these are
  std::set<EventName> events;    // and of which events
  RestsOn rests_on = {};
};

// prompt -> gather
struct Chosen {
  std::string prompt_id;
  uint32_t prompt_version = 0;
  std::string system;
  Decoding decoding;
  std::string decoding_name;
  std::vector<FewShot> shots;
  double propensity = 1;  // probability with which the policy chose this arm
  uint32_t prompts_changed = 0;
  uint32_t examples_changed = 0;
  uint32_t decisions_removed = 0;  // of a forget
  std::string note;                // of feedback: which arm it was credited to
};

// gather -> respond
struct Gathered {
  std::shared_ptr<const Resolved> resolved;
  std::shared_ptr<const Found> found;
  std::shared_ptr<const Admission> admission;
  std::shared_ptr<const Chosen> chosen;
};

// ---- Outcomes: exactly one per event ------------------------------------------------------------

struct Citation {
  std::string document_id;
  uint32_t version = 0;
  double score = 0;
  friend bool operator==(const Citation&, const Citation&) = default;
};

// Why an answer ends where it does. Unknown: it was given before that was kept.
enum class FinishReason : uint8_t { kUnknown, kStop, kLength, kWindow };

// "stop": the model ended its turn; "length": max_tokens; "window": the model's. Empty: unknown.
std::string_view Name(FinishReason reason);

struct Response {
  std::string text;
  std::vector<Citation> citations;
  std::string prompt_id;
  uint32_t prompt_version = 0;
  std::string decoding_name;
  Decoding decoding;
  double propensity = 1;
  Version adapter_version = 0;
  std::string adapter_digest;  // "base" for version 0
  bool cache_hit = false;
  std::string cache_why;  // "exact text, same passages, prompt and adapter", "first time asked"
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  FinishReason finish_reason = FinishReason::kUnknown;
};

// A receipt: what the event did. `summary` is for people: "3 chunks indexed".
struct Applied {
  std::string summary;
  std::optional<uint64_t> step;
  std::optional<Version> makes_version;
};

struct DeadLetter {
  std::string stage;  // decode, prepare, recall, index, adapt, prompt, respond
  Error error;
  std::string bytes;         // of the event, cut to the configured length
  std::string bytes_sha256;  // of all of them
  uint64_t bytes_total = 0;
};

// What became of an earlier lesson whose receipt could not know it.
struct LessonEnd {
  enum class What : uint8_t { kSetAside, kLearntAfterAll, kRefused, kFailed };
  uint64_t event = 0;  // its number in the partition, counted from 0
  What what = What::kSetAside;
  std::string why;  // empty: it was learnt
  friend bool operator==(const LessonEnd&, const LessonEnd&) = default;
};
inline constexpr std::string_view kLessonEndNames[] = {"set_aside", "learnt_after_all", "refused",
                                                       "failed"};

struct Outcome {
  TenantId tenant;     // empty where the event could not be read
  std::string source;  // of the event
  std::string id;      // of the event
  std::string type;    // of the event: "nudge.query"
  std::variant<Response, Applied, DeadLetter> what;
  std::vector<SnapshotRef> snapshots;
  std::vector<LessonEnd> lesson_ends = {};  // beside a snapshot: the tenant's since the last one
};

}  // namespace nudge
