#include "stages/respond.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "stages/hash.h"

namespace nudge {
namespace {

std::string Counted(uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// Each document that holds a shown passage, once.
std::vector<Citation> Cite(const std::vector<Passage>& passages, size_t count) {
  std::vector<Citation> citations;
  const auto cite = [&](const std::string& document_id, uint32_t version, double score) {
    const bool cited =
        std::any_of(citations.begin(), citations.end(), [&](const Citation& citation) {
          return citation.document_id == document_id && citation.version == version;
        });
    if (!cited) citations.push_back({document_id, version, score});
  };
  for (size_t i = 0; i < std::min(count, passages.size()); ++i) {
    const Passage& passage = passages[i];
    cite(passage.document_id, passage.version, passage.score);
    for (const Passage::Copy& copy : passage.copies) {
      cite(copy.document_id, copy.version, passage.score);
    }
  }
  return citations;
}

// What a change of documents or prompts did.
std::string Receipt(const Event& event, const Found& found, const Chosen& chosen) {
  const std::string prompt = "prompt " + chosen.prompt_id;
  const std::string prompt_version = ", version " + std::to_string(chosen.prompt_version);
  if (const auto* upsert = std::get_if<DocumentUpsert>(&event.data)) {
    std::string text = Counted(found.chunks_added, "chunk") + " indexed as version " +
                       std::to_string(found.document_version) + " of " + upsert->document_id;
    if (found.chunks_removed > 0) text += " (" + std::to_string(found.chunks_removed) + " removed)";
    return text;
  }
  if (const auto* removal = std::get_if<DocumentDelete>(&event.data)) {
    if (found.document_version == 0) {
      return "nothing removed: there is no document " + removal->document_id;
    }
    return Counted(found.chunks_removed, "chunk") + " removed with version " +
           std::to_string(found.document_version) + " of " + removal->document_id;
  }
  if (std::holds_alternative<PromptUpsert>(event.data)) {
    return prompt + prompt_version + (chosen.note.empty() ? "" : ": " + chosen.note);
  }
  if (chosen.prompts_changed > 0) return prompt + " deleted" + prompt_version;
  return prompt + " not deleted: " + chosen.note;
}

}  // namespace

Respond::Respond(ChatFormat format, RespondOptions options)
    : assembly_(std::move(format), options.prompt_tokens_max), options_(options) {}

Result<Plan> Respond::Apply(Sequence at, const Origin&, const Gathered& gathered) {
  const Event& event = gathered.resolved->prepared->event;
  if (!gathered.resolved->duplicate_of && std::holds_alternative<Query>(event.data)) {
    return PlanAnswer(at, gathered);
  }
  Plan plan;
  plan.outcome = {
      event.tenant, event.source, event.id, std::string(TypeName(event)), Applied{}, {}};
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  if (gathered.resolved->duplicate_of) {
    summary = "duplicate of event " + std::to_string(gathered.resolved->duplicate_of->ordinal());
  } else if (const auto* command = std::get_if<AdapterCommand>(&event.data)) {
    PlanCommand(*command, gathered, plan);
  } else if (const auto* forget = std::get_if<Forget>(&event.data)) {
    PlanForget(at, *forget, gathered, plan);
  } else if (std::holds_alternative<Feedback>(event.data) ||
             std::holds_alternative<ExampleGiven>(event.data)) {
    PlanFeedback(at, gathered, plan);
  } else {
    summary = Receipt(event, *gathered.found, *gathered.chosen);
  }
  if (const std::optional<Step>& step = gathered.pinned->step) {
    Applied& applied = std::get<Applied>(plan.outcome.what);
    applied.step = step->number;
    applied.makes_version = step->makes;
    ENSURE(plan.lesson.has_value());
    plan.lesson->step = *step;
    plan.lesson->parent = gathered.pinned->parent;
    plan.waits_for_lesson = step->snapshot || std::holds_alternative<Import>(plan.lesson->what);
  }
  return plan;
}

// ---- Queries ------------------------------------------------------------------------------------

Result<std::vector<ChatMessage>> Respond::ChatFor(const Gathered& gathered) const {
  const Query& query = std::get<Query>(gathered.resolved->prepared->event.data);
  Result<AssembledChat> assembled = assembly_.Apply(query, *gathered.chosen, *gathered.found);
  if (!assembled.ok()) return assembled.error();
  return std::move(assembled->chat);
}

Result<Plan> Respond::PlanAnswer(Sequence at, const Gathered& gathered) {
  const Event& event = gathered.resolved->prepared->event;
  const Query& query = std::get<Query>(event.data);
  const Chosen& chosen = *gathered.chosen;
  Response response;
  response.prompt_id = chosen.prompt_id;
  response.prompt_version = chosen.prompt_version;
  response.decoding_name = chosen.decoding_name;
  response.decoding = chosen.decoding;
  response.propensity = chosen.propensity;
  response.adapter_version = gathered.pinned->serve;
  if (response.adapter_version == 0) response.adapter_digest = "base";

  Plan plan;
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  if (options_.cache_entries_per_tenant == 0) {
    response.cache_why = "the cache is off";
  } else if (!AnswerCache::IsRepeatable(query, chosen)) {
    response.cache_why = "sampled without a fixed seed";
  } else if (tenant == nullptr) {
    response.cache_why = "first time asked";
  } else {
    const CacheKey key = AnswerCache::KeyOf(query, chosen);
    response.cache_why = tenant->cache.WhyNot(key, AnswerCache::BasisOf(gathered));
    response.cache_hit = response.cache_why.empty();
    if (response.cache_hit) {
      const AnswerCache::Hit hit = tenant->cache.Use(key, at);
      response.cache_why = "exact text, same passages, prompt and adapter";
      response.citations = Cite(gathered.found->passages, hit.passages_shown);
      plan.answer_of = Sequence{hit.answer};
      tenant->records.Remember(at, {hit.answer, event.user, key}, options_.records_per_tenant,
                               tenant->shown, plan.retired);
    }
  }
  if (!response.cache_hit) {
    Result<AssembledChat> assembled = assembly_.Apply(query, chosen, *gathered.found);
    if (!assembled.ok()) return assembled.error();
    AskModel(at, gathered, std::move(*assembled), plan, response);
  }
  plan.outcome = {event.tenant, event.source, event.id, "nudge.query", std::move(response), {}};
  return plan;
}

// A new answer: what it is generated from, and its places in records and cache.
void Respond::AskModel(Sequence at, const Gathered& gathered, AssembledChat assembled, Plan& plan,
                       Response& response) {
  const Event& event = gathered.resolved->prepared->event;
  const Query& query = std::get<Query>(event.data);
  const Chosen& chosen = *gathered.chosen;
  const uint64_t seed =
      query.options.seed ? *query.options.seed : SeedOf({event.tenant, event.source, event.id});
  response.citations = Cite(gathered.found->passages, assembled.passages_shown);
  ShownChat shown{std::move(assembled.chat), {}, event.user, !chosen.shots.empty()};
  for (const Citation& citation : response.citations) shown.documents.insert(citation.document_id);
  Tenant& tenant = tenants_.Make(at.partition(), event.tenant);
  tenant.shown.Put(at.value, shown);
  plan.generate = Generate{std::move(shown.chat), response.adapter_version, chosen.decoding, seed};
  const bool cacheable =
      options_.cache_entries_per_tenant > 0 && AnswerCache::IsRepeatable(query, chosen);
  const CacheKey key = cacheable ? AnswerCache::KeyOf(query, chosen) : CacheKey{};
  tenant.records.Remember(at, {at.value, event.user, key}, options_.records_per_tenant,
                          tenant.shown, plan.retired);
  if (!cacheable) return;
  tenant.cache.Put(key, AnswerCache::BasisOf(gathered),
                   {at.value, static_cast<uint32_t>(assembled.passages_shown)},
                   options_.cache_entries_per_tenant, tenant.shown, plan.retired);
}

// ---- Feedback, examples, commands ---------------------------------------------------------------

std::string Respond::Learning(const Gathered& gathered, bool teaches) const {
  const Pinned& pinned = *gathered.pinned;
  if (!teaches) return "nothing to learn: reward 0";
  if (!options_.learning) return "no training step: learning is off";
  if (pinned.frozen) return "no training step: adapter frozen";
  if (!pinned.step) {
    return "no training step: user " + gathered.resolved->prepared->event.user +
           " has had its share of the recent ones";
  }
  std::string text = "training step " + std::to_string(pinned.step->number);
  if (pinned.step->makes) text += ", makes version " + std::to_string(*pinned.step->makes);
  return text;
}

// Feedback and examples: a receipt, perhaps a lesson.
void Respond::PlanFeedback(Sequence at, const Gathered& gathered, Plan& plan) {
  const Prepared& prepared = *gathered.resolved->prepared;
  const Chosen& chosen = *gathered.chosen;
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  LoggedExample logged;
  const auto plain_chat = [&](const std::string& question) {
    if (!chosen.system.empty()) logged.chat.push_back({"system", chosen.system});
    logged.chat.push_back({"user", question});
  };
  logged.user = prepared.event.user;
  if (const auto* example = std::get_if<ExampleGiven>(&prepared.event.data)) {
    plain_chat(example->query);
    logged.shown = example->answer;
    logged.reward = 1;
    summary = chosen.examples_changed > 0 ? "example kept" : "example";
    if (!chosen.note.empty()) summary += " (" + chosen.note + ")";
    summary += "; " + Learning(gathered, true);
  } else {
    const Feedback& feedback = std::get<Feedback>(prepared.event.data);
    const Signal signal = prepared.signal.value_or(Signal{});
    const bool teaches = signal.reward != 0 || signal.correction;
    summary = Learning(gathered, teaches);
    // Who sends dislikes as 0 would never hear of it otherwise.
    if (!teaches && feedback.rating == 0.0) {
      summary = "nothing to learn: rating 0 is neutral, a dislike is -1 or \"down\"";
    }
    logged.reward = signal.reward;
    logged.correction = signal.correction;
    Tenant* tenant = tenants_.Find(at.partition(), prepared.event.tenant);
    const std::optional<Sequence>& about = gathered.resolved->about;
    const AnswerRecords::Record* record =
        about && tenant != nullptr ? tenant->records.Find(*about) : nullptr;
    std::optional<ShownChat> shown =
        record != nullptr ? tenant->shown.Find(record->answer) : std::nullopt;
    if (shown) {
      logged.chat = std::move(shown->chat);
      logged.shown = Sequence{record->answer};
      logged.documents = std::move(shown->documents);
      if (logged.user.empty()) logged.user = record->user;
    } else if (feedback.inline_answer) {
      plain_chat(feedback.inline_answer->query);
      logged.shown = feedback.inline_answer->completion;
    } else {
      logged = {};
      logged.shown = std::string();
      if (gathered.pinned->step) summary += " and changes nothing: the answer is not on record";
    }
    if (!chosen.note.empty()) summary += "; " + chosen.note;
    if (record != nullptr && (signal.reward < 0 || signal.correction) &&
        tenant->cache.Reject(record->cache_key, record->answer, tenant->shown, plan.retired)) {
      summary += "; the answer left the cache";
    }
  }
  if (gathered.pinned->step) plan.lesson = Lesson{std::move(logged), {}, 0};
}

void Respond::PlanCommand(const AdapterCommand& command, const Gathered& gathered,
                          Plan& plan) const {
  using Action = AdapterCommand::Action;
  const Pinned& pinned = *gathered.pinned;
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  if (!options_.learning) {
    summary = "nothing done: the adapter is switched off";
    if (!pinned.step) return;
  }
  switch (command.action) {
    case Action::kFreeze:
      summary = "adapter frozen at version " + std::to_string(pinned.serve);
      break;
    case Action::kUnfreeze:
      summary = "adapter learns on from version " + std::to_string(pinned.serve);
      break;
    case Action::kRollback:
      if (pinned.step) {
        summary = "rolled back to version " + std::to_string(pinned.serve);
        plan.lesson = Lesson{Rollback{pinned.serve}, {}, 0};
      } else {
        summary =
            "nothing rolled back: " +
            (command.version ? "version " + std::to_string(*command.version)
                             : "what version " + std::to_string(pinned.serve) + " grew from") +
            " is not kept";
      }
      break;
    case Action::kReset:
      summary = "reset to the base model";
      plan.lesson = Lesson{Reset{}, {}, 0};
      break;
    case Action::kImport:
      summary = "imported " + command.uri + " as version " + std::to_string(pinned.serve);
      plan.lesson = Lesson{Import{command.uri, command.sha256}, {}, 0};
      break;
  }
}

void Respond::PlanForget(Sequence at, const Forget& forget, const Gathered& gathered, Plan& plan) {
  size_t answers = 0;
  size_t cached = 0;
  if (Tenant* tenant = tenants_.Find(at.partition(), gathered.resolved->prepared->event.tenant)) {
    const bool shots_too = gathered.chosen->examples_changed > 0;
    const std::set<AnswerId> gone = tenant->shown.Concerned(forget, shots_too);
    answers = tenant->records.Purge(gone, forget.user, tenant->shown, plan.retired);
    cached = tenant->cache.Purge(gone, tenant->shown, plan.retired);
  }
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  summary = forget.user.empty() ? "forgot document " + forget.document_id + ": " +
                                      Counted(gathered.found->chunks_removed, "chunk")
                                : "forgot user " + forget.user + ": " +
                                      Counted(gathered.chosen->examples_changed, "example");
  summary += ", " + Counted(answers, "query record") + ", " + Counted(cached, "cached answer");
  if (const std::optional<Step>& step = gathered.pinned->step) {
    plan.lesson = Lesson{Unlearn{forget.user, forget.document_id}, {}, 0};
    summary += "; training step " + std::to_string(step->number) +
               " rebuilds the adapter as version " + std::to_string(step->makes.value_or(0));
  }
}

// ---- State --------------------------------------------------------------------------------------

void Respond::Save(int32_t partition, Changes& changes) {
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    tenant.records.Save(name, changes);
    tenant.cache.Save(name, changes);
    tenant.shown.Save(name, changes);
  });
}

Result<Nothing> Respond::Load(int32_t partition, const Change& entry) {
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (entry.kind == AnswerRecords::kKind) return tenant.records.Load(entry, tenant.shown);
  if (entry.kind == AnswerCache::kKind) return tenant.cache.Load(entry, tenant.shown);
  if (entry.kind == ShownAnswers::kKind) return tenant.shown.Load(entry);
  return UnreadableEntry(entry);
}

void Respond::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
