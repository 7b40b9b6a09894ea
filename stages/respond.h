// The plan for each event, and the one outcome it ends in: Gathered -> [Respond] -> Plan.
//
// Queries: an earlier answer to the same question is given again if all that it rested on is as it
// was (answer_cache.h), else the chat is put together within the model's window (chat_assembly.h)
// and an answer is asked for. Citations name the passages that are shown. Everything else: a
// receipt, and the lesson that it is for the adapter.
//
// Records: of the last queries, what was shown, from which feedback makes an LoggedExample
// (answer_records.h). Plan::retired names the answers that nothing refers to any more: their texts
// may go once this plan and the earlier ones are done (the same plan may still name them).
//
// A step that adapt has counted always gets its lesson. If nothing can be learnt (the answer is no
// longer on record, or was never given), that is an LoggedExample with an empty chat, and what the
// step makes equals its parent.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop. Forget walks
// over the tenant's records and cache, everything else costs O(log n) and a count of tokens.
#pragma once

#include <string>
#include <vector>

#include "stages/answer_cache.h"
#include "stages/answer_records.h"
#include "stages/chat_assembly.h"
#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/respond_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Respond {
 public:
  // format.count_tokens is called by Apply, on its thread.
  Respond(ChatFormat format, RespondOptions options = {});

  // gathered: no pointer in it is null. The only error is kTooLarge, of a query whose system
  // prompt, question and max_tokens do not fit the window; the state is as before.
  Result<Plan> Apply(Sequence at, const Origin& origin, const Gathered& gathered);

  // The chat that a query would be answered from now; nothing changes. Requires a query. Errors as
  // Apply's.
  Result<std::vector<ChatMessage>> ChatFor(const Gathered& gathered) const;

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  struct Tenant {
    AnswerRecords records;
    AnswerCache cache;
    ShownAnswers shown;
  };

  Result<Plan> PlanAnswer(Sequence at, const Gathered& gathered);
  void AskModel(Sequence at, const Gathered& gathered, AssembledChat assembled, Plan& plan,
                Response& response);
  void PlanFeedback(Sequence at, const Gathered& gathered, Plan& plan);
  void PlanCommand(const AdapterCommand& command, const Gathered& gathered, Plan& plan) const;
  void PlanForget(Sequence at, const Forget& forget, const Gathered& gathered, Plan& plan);
  std::string Learning(const Gathered& gathered, bool teaches) const;

  const ChatAssembly assembly_;
  const RespondOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
