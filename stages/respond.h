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
// The adapter: which version serves, and what an event changes in it, says the tenant's lineage
// (lineage.h), which learns here whose words are in a lesson. What cannot be learnt makes no step,
// and the receipt says why: the answer is no longer on record, or question and answer are longer
// than the window. Where only what is before the question makes it too long, its head is left out.
// Nor is what rests on a document that is not for everybody, unless learn_restricted says so: an
// adapter serves the whole tenant, and may tell what it learnt.
// Where users have adapters of their own (adapt.scope), what a user says teaches theirs alone, and
// only their questions are answered with it. So an answer to another user's question teaches them
// nothing: it may have been made with the other's adapter.
// What a user says again of an answer replaces the lesson of what they said before, also where
// nothing can be learnt of it; but for a frozen adapter, which stays as it is.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop. Forget walks
// over the tenant's records and cache, everything else costs O(log n) and a count of tokens.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "stages/answer_cache.h"
#include "stages/answer_records.h"
#include "stages/chat_assembly.h"
#include "stages/events.h"
#include "stages/jobs.h"
#include "stages/lineages.h"
#include "stages/respond_options.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Respond {
 public:
  // Of the rows of documents that are not for everybody, in a saved state.
  static constexpr char kRestrictedKind[] = "restricted_document";

  // format.count_tokens is called by Apply, on its thread.
  Respond(ChatFormat format, RespondOptions options = {}, AdaptOptions adapt = {});

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
    Lineages lineages;
    RestrictedDocuments restricted;
  };
  // What feedback or an example offers: the lesson, and whose words it holds. Without a chat there
  // is nothing on record to learn from.
  struct Offer {
    LoggedExample logged;
    Lineage::Holds holds;
    Lineage::Taught taught;
  };

  std::optional<LearnerId> LearnerOf(const std::string& user) const;
  LearnerId CachedFor(const Tenant* tenant, const std::string& user) const;
  Result<Plan> PlanAnswer(Sequence at, const Gathered& gathered);
  void AskModel(Sequence at, const Gathered& gathered, AssembledChat assembled, Plan& plan,
                Response& response);
  void NoteDocuments(Sequence at, const Resolved& resolved);
  void PlanExample(Sequence at, const Gathered& gathered, Plan& plan);
  void PlanFeedback(Sequence at, const Gathered& gathered, Plan& plan);
  bool IsRestricted(const Tenant& tenant, const AnswerRecords::Record& record) const;
  bool IsAnothers(const AnswerRecords::Record& record, const std::string& user) const;
  std::string WhyNoLesson(const Tenant& tenant, const std::optional<LearnerId>& learner) const;
  static Offer OfferOf(const Gathered& gathered, const Tenant* tenant,
                       const AnswerRecords::Record* record);
  std::string Teach(Sequence at, const Gathered& gathered, std::optional<Offer> offer,
                    std::string otherwise, Plan& plan);
  std::string Learn(Sequence at, const Gathered& gathered, Offer offer, Lineage& lineage,
                    const Lineage::Unlearnt& behind, size_t left_out, Plan& plan) const;
  Result<size_t> Fit(LoggedExample& logged) const;
  void PlanCommand(Sequence at, const AdapterCommand& command, const Imported& imported,
                   Tenant& tenant, Plan& plan) const;
  std::string PlanRollback(const AdapterCommand& command, Tenant& tenant, Plan& plan) const;
  std::string PlanReset(const AdapterCommand& command, Tenant& tenant, Plan& plan) const;
  std::string PlanImport(Sequence at, const AdapterCommand& command, const Imported& imported,
                         Tenant& tenant, Plan& plan) const;
  static Lineage::Taught TaughtBy(const Event& event);
  std::string Serves(const Lineage& lineage) const;
  std::string TakingOver(const Lineage::Unlearnt& unlearnt, const Lineage& lineage) const;
  std::string Unlearning(const Lineage::Unlearnt& unlearnt, const Lineage& lineage) const;
  static std::string Dropping(const Lineage::Unlearnt& unlearnt);
  static std::string Withdrawing(const Lineage::Withdrawn& withdrawn, const std::string& verb);
  struct Forgotten;
  Forgotten ForgetLessons(const Forget& forget, Tenant& tenant, const Gathered& gathered,
                          Plan& plan) const;
  void PlanForget(const Forget& forget, Tenant& tenant, const Gathered& gathered, Plan& plan) const;
  static void AddStep(const LearnerId& learner, const std::optional<Step>& step,
                      decltype(Lesson::what) what, Version parent, Plan& plan);

  const ChatAssembly assembly_;
  const RespondOptions options_;
  const AdaptOptions adapt_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
