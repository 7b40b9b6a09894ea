// The plan for each event, and the one outcome it ends in: Gathered -> [Respond] -> Plan.
//
// Queries: an earlier answer to the same question is served again if all that it rested on is as
// it was, else the chat is put together within the model's window and an answer is asked for.
// Everything else: a receipt, and the lesson that it is for the adapter.
//
// Chat: the system prompt; few-shots as turns of user and assistant; one user message with the
// passages, numbered from [1], and the question. It is to fit prompt_tokens_max and to leave
// max_tokens of the window. What does not fit goes in this order: the last passages down to one,
// the last few-shots, the end of the one passage sentence by sentence, that passage. System prompt
// and question stay: with them alone only the window counts. Citations name what is left.
//
// Cache: by question (NormalisedKey), prompt, decoding and, where it is sampled, seed. A hit needs
// the same passages in the same order (document, version, chunk), prompt version, few-shots and
// adapter version; Response::cache_why names the first that differs. Answers at temperature 0 are
// cached whatever the seed, sampled ones only under a seed that the event gave. An answer that is
// still being generated is a hit. Negative feedback or a correction ends its entry.
//
// Records: of the last queries, what was shown, from which feedback makes an Exercise. One
// answer's chat is kept once, however many records and cache entries refer to it. When none does
// any more, Plan::retired names it: its text may go once this plan and the earlier ones are done
// (the same plan may still name it).
//
// A step that adapt has counted always gets its lesson. If nothing can be learnt (the answer is no
// longer on record, or was never given), that is an Exercise with an empty chat, and what the step
// makes equals its parent.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop. Forget walks
// over the tenant's records and cache, everything else costs O(log n) and a count of tokens.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/respond_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

// How the language model sees a chat.
struct ChatFormat {
  // Tokens of the chat as the model's template renders it, with the start of the answer's turn.
  std::function<size_t(const std::vector<ChatMessage>&)> count_tokens;
  size_t window_tokens = 2048;  // chat and answer together
};

class Respond {
 public:
  // format.count_tokens is called by Apply, on its thread.
  Respond(ChatFormat format, RespondOptions options = {});

  // gathered: no pointer in it is null. The only error is kTooLarge, of a query whose system
  // prompt, question and max_tokens do not fit the window; the state is as before.
  Result<Plan> Apply(Sequence at, const Origin& origin, const Gathered& gathered);

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  // Question (128 bits of SHA-256), and the prompt, decoding and seed (64 bits). Zeros: no key.
  using CacheKey = std::array<uint64_t, 3>;
  struct Shown {  // what an answer was generated from
    std::vector<ChatMessage> chat;
    std::set<std::string> documents;
    std::string user;  // who asked
    bool few_shots = false;
  };
  struct Record {         // of a query
    uint64_t answer = 0;  // sequence of the query that it was generated for
    std::string user;
    CacheKey cache_key{};  // zeros: not cached
  };
  struct PassageId {
    std::string document_id;
    uint32_t version = 0;
    uint32_t chunk = 0;
  };
  struct Cached {
    uint64_t answer = 0;
    bool rejected = false;        // by feedback: a reminder of why there is no answer
    uint64_t used = 0;            // sequence of the last query that it was made or hit by
    uint32_t passages_shown = 0;  // of passages, the first ones
    std::string passages;         // PassageIds as bytes: compared often, read rarely
    std::string prompt_id;
    uint32_t prompt_version = 0;
    std::string decoding_name;
    Decoding decoding;
    uint64_t shots = 0;  // hash
    Version adapter = 0;
  };
  struct Tenant {
    Table<uint64_t, Record> records;
    Table<CacheKey, Cached> cache;
    Table<uint64_t, std::string> answers;  // Shown as it is saved: one block of memory each
    // Derived from records and cache.
    std::unordered_map<uint64_t, uint32_t> references;  // to an answer; only ever looked up
    std::map<uint64_t, CacheKey> by_last_use;           // Cached::used -> key
  };
  struct Assembled {
    std::vector<ChatMessage> chat;
    size_t passages_shown = 0;
  };
  struct Level {  // how much is left out
    size_t passages = 0;
    size_t shots = 0;
    size_t first_passage_bytes = 0;
  };

  Result<Plan> Ask(Sequence at, const Gathered& gathered);
  Result<Assembled> Assemble(const Query& query, const Planned& planned, const Found& found) const;
  static std::vector<Level> Levels(const Planned& planned, const Found& found);
  static std::vector<ChatMessage> Render(const Query& query, const Planned& planned,
                                         const Found& found, const Level& level);

  bool Cacheable(const Query& query, const Planned& planned) const;
  static CacheKey KeyOf(const Query& query, const Planned& planned);
  static std::string WhyNotCached(const Tenant* tenant, const CacheKey& key, const Planned& planned,
                                  const Cached& now);
  static std::string WhyStale(const Cached& cached, const Cached& now);
  static Cached Rest(const Gathered& gathered);
  static std::string EncodeShown(const Shown& shown);
  static std::optional<Shown> DecodeShown(std::string_view bytes);
  static bool Concerns(std::string_view shown, const Forget& forget, bool shots_too);
  static std::string EncodePassages(const std::vector<Passage>& passages);
  static std::vector<PassageId> DecodePassages(std::string_view bytes);
  void Remember(Tenant& tenant, Sequence at, Record record, Plan& plan) const;
  void PutCached(Tenant& tenant, const CacheKey& key, Cached cached, Plan& plan) const;
  static void EraseCached(Tenant& tenant, const CacheKey& key, Plan& plan);
  static void Release(Tenant& tenant, uint64_t answer, Plan& plan);

  void Receive(Sequence at, const Gathered& gathered, Plan& plan);
  bool Reject(Tenant& tenant, const Record& record, Plan& plan) const;
  void Obey(const AdapterCommand& command, const Gathered& gathered, Plan& plan) const;
  void Purge(Sequence at, const Forget& forget, const Gathered& gathered, Plan& plan);
  std::string Learning(const Gathered& gathered, bool teaches) const;

  ChatFormat format_;
  RespondOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
