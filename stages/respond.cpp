#include "stages/respond.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "stages/hash.h"
#include "stages/receipts.h"

namespace nudge {
namespace {

// A question with nothing but the system prompt in front.
std::vector<ChatMessage> PlainChat(const Chosen& chosen, const std::string& question) {
  std::vector<ChatMessage> chat;
  if (!chosen.system.empty()) chat.push_back({"system", chosen.system});
  chat.push_back({"user", question});
  return chat;
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

// Whose words a chat holds: who asks, who gave the shown examples, whose the shown documents are.
std::set<std::string> PeopleIn(const Gathered& gathered, const AssembledChat& assembled) {
  std::set<std::string> people = {gathered.resolved->prepared->event.user};
  const std::vector<FewShot>& shots = gathered.chosen->shots;
  for (size_t i = 0; i < assembled.shots_shown; ++i) {
    people.insert(shots[i].people.begin(), shots[i].people.end());
  }
  const std::vector<Passage>& passages = gathered.found->passages;
  for (size_t i = 0; i < assembled.passages_shown; ++i) {
    people.insert(passages[i].owner);
    for (const Passage::Copy& copy : passages[i].copies) people.insert(copy.owner);
  }
  people.erase("");
  return people;
}

std::set<EventName> EventsIn(const Gathered& gathered, const AssembledChat& assembled) {
  std::set<EventName> events = EventsBehind(gathered.resolved->prepared->event);
  for (size_t i = 0; i < assembled.shots_shown; ++i) {
    const std::set<EventName>& shot = gathered.chosen->shots[i].events;
    events.insert(shot.begin(), shot.end());
  }
  return events;
}

// The lists of what is shown, and the documents that shots rest on; those of passages are cited.
RestsOn RightsIn(const Gathered& gathered, const AssembledChat& assembled) {
  const std::span<const Passage> passages(gathered.found->passages);
  RestsOn rests_on{{}, RestOf(passages.first(assembled.passages_shown)).lists};
  for (size_t i = 0; i < assembled.shots_shown; ++i) {
    rests_on.Add(gathered.chosen->shots[i].rests_on);
  }
  return rests_on;
}

}  // namespace

Respond::Respond(ChatFormat format, RespondOptions options, AdaptOptions adapt)
    : assembly_(std::move(format), options.prompt_tokens_max), options_(options), adapt_(adapt) {}

Result<Plan> Respond::Apply(Sequence at, const Origin&, const Gathered& gathered) {
  const Event& event = gathered.resolved->prepared->event;
  const bool is_duplicate = gathered.resolved->duplicate_of.has_value();
  if (!is_duplicate) NoteDocuments(at, *gathered.resolved);
  if (!is_duplicate && std::holds_alternative<Query>(event.data)) return PlanAnswer(at, gathered);
  Plan plan;
  plan.outcome = {
      event.tenant, event.source, event.id, std::string(TypeName(event)), Applied{}, {}};
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  if (is_duplicate) {
    const Sequence first = *gathered.resolved->duplicate_of;
    const Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
    summary = DuplicateReceipt(first.ordinal());
    if (std::holds_alternative<Query>(event.data) &&
        (tenant == nullptr || tenant->records.Find(first) == nullptr)) {
      summary += ", of which no answer is on record: ask again under a new id";
    }
  } else if (const auto* command = std::get_if<AdapterCommand>(&event.data)) {
    PlanCommand(at, *command, gathered.resolved->prepared->imported,
                tenants_.Make(at.partition(), event.tenant), plan);
  } else if (const auto* forget = std::get_if<Forget>(&event.data)) {
    PlanForget(*forget, tenants_.Make(at.partition(), event.tenant), gathered, plan);
  } else if (std::holds_alternative<Feedback>(event.data)) {
    PlanFeedback(at, gathered, plan);
  } else if (std::holds_alternative<ExampleGiven>(event.data)) {
    PlanExample(at, gathered, plan);
  } else {
    summary = Receipt(*gathered.resolved, *gathered.found, *gathered.chosen);
  }
  if (Tenant* tenant = tenants_.Find(at.partition(), event.tenant)) {
    Lineages& lineages = tenant->lineages;
    plan.versions_dropped = lineages.TakeDroppedVersions();
    for (Lesson& lesson : plan.lessons) lesson.dropped = lineages.TakeDroppedPlaces(lesson.learner);
    if (!is_duplicate) lineages.Advance(LearnerOf(event.user));
  }
  return plan;
}

void Respond::NoteDocuments(Sequence at, const Resolved& resolved) {
  const Event& event = resolved.prepared->event;
  const auto* upsert = std::get_if<DocumentUpsert>(&event.data);
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  if (tenant == nullptr && upsert != nullptr && upsert->access) {
    tenant = &tenants_.Make(at.partition(), event.tenant);
  }
  if (tenant == nullptr) return;
  if (upsert != nullptr) tenant->restricted.Put(upsert->document_id, upsert->access);
  for (const std::string& document_id : resolved.removed) tenant->restricted.Remove(document_id);
}

// Who learns what this user says, and whose questions are answered with it; nothing: nobody.
std::optional<LearnerId> Respond::LearnerOf(const std::string& user) const {
  if (!adapt_.is_by_user()) return LearnerId();
  return user.empty() ? std::nullopt : std::optional<LearnerId>(user);
}

// The lesson of a step, and what the receipt says of it; of several steps it names none.
void Respond::AddStep(const LearnerId& learner, const std::optional<Step>& step,
                      decltype(Lesson::what) what, Version parent, Plan& plan) {
  const bool is_import = std::holds_alternative<Import>(what);
  const bool is_first = std::none_of(plan.lessons.begin(), plan.lessons.end(),
                                     [](const Lesson& lesson) { return lesson.step.number != 0; });
  Lesson& lesson = plan.lessons.emplace_back();
  lesson.what = std::move(what);
  lesson.step = step.value_or(Step{});
  lesson.parent = parent;
  lesson.learner = learner;
  if (!step) return;
  Applied& applied = std::get<Applied>(plan.outcome.what);
  applied.step = is_first ? std::optional(step->number) : std::nullopt;
  applied.makes_version = is_first ? step->makes : std::nullopt;
  plan.waits_for_lessons |= step->snapshot || is_import;
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
  Plan plan;
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  const std::optional<LearnerId> learner = LearnerOf(event.user);
  if (tenant != nullptr && learner && options_.serves_adapters) {
    response.adapter_version = tenant->lineages.Serving(*learner);
  }
  if (response.adapter_version == 0) response.adapter_digest = "base";
  if (options_.cache_entries_per_tenant == 0) {
    response.cache_why = "the cache is off";
  } else if (!AnswerCache::IsRepeatable(query, chosen)) {
    response.cache_why = "sampled without a fixed seed";
  } else if (tenant == nullptr) {
    response.cache_why = "first time asked";
  } else {
    const LearnerId own = CachedFor(tenant, event.user);
    const CacheKey key = AnswerCache::KeyOf(query, chosen, *gathered.found, own);
    response.cache_why =
        tenant->cache.WhyNot(key, AnswerCache::BasisOf(gathered, response.adapter_version),
                             [&](const std::string& document_id) {
                               return tenant->restricted.MaySee({{document_id}, {}}, query.groups);
                             });
    if (!own.empty() && response.cache_why == AnswerCache::kFirstTimeAsked) {
      response.cache_why += " with this user's adapter";
    }
    response.cache_hit = response.cache_why.empty();
    if (response.cache_hit) {
      const AnswerCache::Hit hit = tenant->cache.Use(key, at);
      response.cache_why = "exact text, same passages, prompt and adapter";
      response.citations = Cite(gathered.found->passages, hit.passages_shown);
      plan.answer_of = Sequence{hit.answer};
      tenant->records.Remember(at, {hit.answer, event.user, key, NameOf(event.source, event.id)},
                               options_.records_per_tenant, tenant->shown, plan.retired);
    }
  }
  if (!response.cache_hit) {
    Result<AssembledChat> assembled = assembly_.Apply(query, chosen, *gathered.found);
    if (!assembled.ok()) return assembled.error();
    AskModel(at, gathered, std::move(*assembled), plan, response);
  }
  if (tenant != nullptr) tenant->lineages.Advance(learner);
  plan.outcome = {event.tenant, event.source, event.id, "nudge.query", std::move(response), {}};
  return plan;
}

// Whose place in the cache an answer to this user has: their own if they have an adapter.
LearnerId Respond::CachedFor(const Tenant* tenant, const std::string& user) const {
  const bool is_own = adapt_.is_by_user() && tenant->lineages.Find(user) != nullptr;
  return is_own ? user : LearnerId();
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
  ShownChat shown{std::move(assembled.chat),
                  {},
                  PeopleIn(gathered, assembled),
                  EventsIn(gathered, assembled),
                  query.text.size(),
                  RightsIn(gathered, assembled)};
  for (const Citation& citation : response.citations) shown.documents.insert(citation.document_id);
  Tenant& tenant = tenants_.Make(at.partition(), event.tenant);
  tenant.shown.Put(at.value, shown);
  plan.generate = Generate{std::move(shown.chat), response.adapter_version, chosen.decoding, seed};
  const bool cacheable =
      options_.cache_entries_per_tenant > 0 && AnswerCache::IsRepeatable(query, chosen);
  const CacheKey key =
      cacheable ? AnswerCache::KeyOf(query, chosen, *gathered.found, CachedFor(&tenant, event.user))
                : CacheKey{};
  tenant.records.Remember(at, {at.value, event.user, key, NameOf(event.source, event.id)},
                          options_.records_per_tenant, tenant.shown, plan.retired);
  if (!cacheable) return;
  tenant.cache.Put(key, AnswerCache::BasisOf(gathered, response.adapter_version),
                   {at.value, static_cast<uint32_t>(assembled.passages_shown)},
                   options_.cache_entries_per_tenant, tenant.shown, plan.retired);
}

// ---- Feedback and examples ----------------------------------------------------------------------

// Leaves out of the lesson's chat what the window has no room for beside the answer, and says how
// many tokens. An answer of ours fitted with its question.
Result<size_t> Respond::Fit(LoggedExample& logged) const {
  const auto* elsewhere = std::get_if<std::string>(&logged.shown);
  const std::string* longest = logged.correction ? &*logged.correction : elsewhere;
  if (longest == nullptr) return size_t{0};
  if (elsewhere != nullptr && elsewhere->size() > longest->size()) longest = elsewhere;
  Result<ShortenedChat> fitting = assembly_.Shorten(logged.chat, *longest);
  if (!fitting.ok()) return fitting.error();
  logged.chat = std::move(fitting->chat);
  return fitting->tokens_left_out;
}

Lineage::Taught Respond::TaughtBy(const Event& event) {
  Lineage::Taught taught{event.source, event.id, event.user, {}, {}};
  const auto* feedback = std::get_if<Feedback>(&event.data);
  if (feedback != nullptr && !feedback->query_id.empty()) {
    const bool own = feedback->query_source.empty();
    taught.query_source = own ? event.source : feedback->query_source;
    taught.query_id = feedback->query_id;
  }
  return taught;
}

// Takes up what the event offers, in place of what its user has said of the same answer before.
// What the receipt says of it; `otherwise` where nothing is offered.
std::string Respond::Teach(Sequence at, const Gathered& gathered, std::optional<Offer> offer,
                           std::string otherwise, Plan& plan) {
  const Event& event = gathered.resolved->prepared->event;
  const std::vector<Sequence>& earlier = gathered.resolved->earlier;
  if (!offer && earlier.empty()) return otherwise;
  const auto* feedback = std::get_if<Feedback>(&event.data);
  const bool takes_back = feedback != nullptr && feedback->takes_back;
  const std::string nothing = takes_back ? "nothing taken back: " : "no training step: ";
  if (!adapt_.enabled) return nothing + "learning is off";
  if (gathered.admission->frozen) return nothing + "adapter frozen";
  size_t left_out = 0;
  if (offer && offer->logged.chat.empty()) {
    otherwise = "nothing to learn: the answer is not on record";
    offer.reset();
  } else if (offer) {
    const Result<size_t> fit = Fit(offer->logged);
    if (fit.ok()) {
      left_out = *fit;
    } else {
      otherwise = nothing + fit.error().message;
      offer.reset();
    }
  }
  Tenant& tenant = tenants_.Make(at.partition(), event.tenant);
  const std::optional<LearnerId> learner = LearnerOf(event.user);
  if (std::string why = WhyNoLesson(tenant, learner); offer && !why.empty()) {
    otherwise = nothing + why;
    offer.reset();
  }
  const bool has_learnt = learner && tenant.lineages.Find(*learner) != nullptr;
  if (!offer && (earlier.empty() || !has_learnt)) return otherwise;
  Lineage& lineage = tenant.lineages.Change(*learner);
  using enum Lineage::Standing;
  Lineage::Withdrawn withdrawn =
      lineage.Withdraw(earlier, takes_back ? kTakenBack : kReplaced, adapt_);
  Lineage::Unlearnt& unlearnt = withdrawn.unlearnt;
  const std::string withdrawing = Withdrawing(withdrawn, takes_back ? "takes back " : "replaces ");
  std::string text;
  if (offer) {
    text = Learn(at, gathered, *std::move(offer), lineage, unlearnt, left_out, plan);
    if (!withdrawing.empty()) text += "; " + withdrawing;
  } else {
    const Version parent = lineage.parent();
    unlearnt.step = lineage.Rebuild(unlearnt, adapt_);
    if (unlearnt.lessons > 0) {
      AddStep(*learner, unlearnt.step, Return{lineage.PathOfHead(), unlearnt.changed}, parent,
              plan);
    }
    if (!takes_back || withdrawing.empty()) text = std::move(otherwise);
    if (!text.empty() && !withdrawing.empty()) text += "; ";
    text += withdrawing + Unlearning(unlearnt, lineage);
  }
  return text + Dropping(unlearnt);
}

// Why nobody can learn what is offered; empty: this learner can.
std::string Respond::WhyNoLesson(const Tenant& tenant,
                                 const std::optional<LearnerId>& learner) const {
  if (!learner) {
    return "it names no user, and users teach adapters of their own (adapt.scope)";
  }
  const size_t users = tenant.lineages.users();
  const bool is_new = adapt_.is_by_user() && tenant.lineages.Find(*learner) == nullptr;
  if (!is_new || users < adapt_.users_per_tenant_max) return {};
  return Counted(users, "user") +
         " of this tenant have adapters of their own, as many as adapt.users_per_tenant_max "
         "allows; nobody's is given up for another's";
}

// A lesson, behind what the same event has withdrawn. left_out: tokens of its chat.
std::string Respond::Learn(Sequence at, const Gathered& gathered, Offer offer, Lineage& lineage,
                           const Lineage::Unlearnt& behind, size_t left_out, Plan& plan) const {
  const Admission& admission = *gathered.admission;
  const Event& event = gathered.resolved->prepared->event;
  ENSURE(admission.offers);
  const Version parent = lineage.parent();
  if (!event.user.empty()) {
    offer.holds.people.insert(event.user);
    offer.logged.teacher = event.user;
  }
  offer.logged.source = event.source;
  offer.holds.events.merge(EventsBehind(event));
  offer.logged.admitted = admission.admitted;
  const std::optional<Step> step = lineage.Learn(at, std::move(offer.holds), admission.admitted,
                                                 adapt_, TaughtBy(event), &behind);
  AddStep(*LearnerOf(event.user), step, std::move(offer.logged), parent, plan);
  if (!behind.changed.empty()) {
    plan.lessons.back().behind = Return{lineage.PathOfHead(), behind.changed};
  }
  std::string text;
  if (!admission.admitted) {
    text = std::string(step ? "not learnt: " : "no training step: ") +
           (event.user.empty() ? "who gives no name" : "user " + event.user) +
           " has had its share of the recent ones";
    if (!step) return text;
    text += "; ";
  }
  text += "training step " + std::to_string(step->number);
  if (behind.lessons_again > 0) {
    text += ", behind " + Counted(behind.lessons_again, "lesson") + " learnt again";
  }
  if (step->makes) {
    text += ", makes version " + std::to_string(*step->makes) + " if it passes the gates";
  }
  if (!step->makes && behind.head_changes) text += ": " + Serves(lineage);
  text += TakingOver(behind, lineage);
  if (left_out > 0) {
    text += ", without " + Counted(left_out, "token") +
            " before its question that the window has no room for";
  }
  return text;
}

// An example: a receipt, and a lesson with full reward.
void Respond::PlanExample(Sequence at, const Gathered& gathered, Plan& plan) {
  const Chosen& chosen = *gathered.chosen;
  const auto& example = std::get<ExampleGiven>(gathered.resolved->prepared->event.data);
  Offer offer;
  offer.logged.chat = PlainChat(chosen, example.query);
  offer.logged.shown = example.answer;
  offer.logged.reward = 1;
  offer.logged.question_bytes = example.query.size();
  std::string summary = chosen.examples_changed > 0 ? "example kept" : "example";
  if (!chosen.note.empty()) summary += " (" + chosen.note + ")";
  summary += "; " + Teach(at, gathered, std::move(offer), {}, plan);
  std::get<Applied>(plan.outcome.what).summary = std::move(summary);
}

// By the access lists of when it was given, and of now.
bool Respond::IsRestricted(const Tenant& tenant, const AnswerRecords::Record& record) const {
  std::optional<ShownChat> shown = tenant.shown.Find(record.answer);
  if (!shown) return false;
  shown->rests_on.documents.merge(shown->documents);
  return tenant.restricted.HasAnyOf(shown->rests_on);
}

// Whether what was shown may be from another user's adapter, and be learnt into this one's.
bool Respond::IsAnothers(const AnswerRecords::Record& record, const std::string& user) const {
  return adapt_.is_by_user() && !user.empty() && !record.user.empty() && record.user != user;
}

// What feedback offers, of an answer on record or one that it brings.
Respond::Offer Respond::OfferOf(const Gathered& gathered, const Tenant* tenant,
                                const AnswerRecords::Record* record) {
  const Prepared& prepared = *gathered.resolved->prepared;
  const Feedback& feedback = std::get<Feedback>(prepared.event.data);
  Offer offer;
  offer.logged.shown = std::string();
  offer.logged.reward = prepared.signal->reward;
  offer.logged.correction = prepared.signal->correction;
  offer.logged.comment = feedback.comment;
  std::optional<ShownChat> shown =
      record != nullptr ? tenant->shown.Find(record->answer) : std::nullopt;
  if (shown) {
    offer.logged.chat = std::move(shown->chat);
    offer.logged.shown = Sequence{record->answer};
    offer.logged.question_bytes = shown->question_bytes;
    offer.holds = {std::move(shown->people), std::move(shown->documents), std::move(shown->events),
                   std::move(shown->rests_on)};
    if (!record->user.empty()) {
      offer.holds.people.insert(record->user);
      offer.logged.teacher = record->user;  // unless the feedback has a user of its own
    }
  } else if (feedback.inline_answer) {
    offer.logged.chat = PlainChat(*gathered.chosen, feedback.inline_answer->query);
    offer.logged.shown = feedback.inline_answer->completion;
    offer.logged.question_bytes = feedback.inline_answer->query.size();
  }
  return offer;
}

// Feedback: a receipt, perhaps a lesson, perhaps an earlier one less.
void Respond::PlanFeedback(Sequence at, const Gathered& gathered, Plan& plan) {
  const Resolved& resolved = *gathered.resolved;
  const Event& event = resolved.prepared->event;
  const Signal signal = resolved.prepared->signal.value_or(Signal{});
  const bool teaches = signal.reward != 0 || signal.correction;
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  const AnswerRecords::Record* record =
      resolved.about && tenant != nullptr ? tenant->records.Find(*resolved.about) : nullptr;
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  if (resolved.unheard == Unheard::kSignalsOnly) {
    summary = "nothing to learn: user " + event.user +
              " has rated or corrected this answer, and signals do not replace that";
  } else if (resolved.unheard == Unheard::kOneTooMany) {
    summary = "nothing done: user " + event.user +
              " has replaced what they said of this answer as often as adapt.replacements_max "
              "allows; what holds is unlearnt by a nudge.forget with its event_id";
  } else if (teaches && !adapt_.learn_restricted && record != nullptr &&
             IsRestricted(*tenant, *record)) {
    summary = Teach(at, gathered, std::nullopt,
                    "nothing to learn: the answer rests on a document that is not for everybody, "
                    "and adapt.learn_restricted is false",
                    plan);
  } else if (teaches && record != nullptr && IsAnothers(*record, event.user)) {
    summary = Teach(at, gathered, std::nullopt,
                    "nothing to learn: the question is another user's, and users teach adapters of "
                    "their own (adapt.scope)",
                    plan);
  } else if (teaches) {
    summary = Teach(at, gathered, OfferOf(gathered, tenant, record), {}, plan);
  } else {
    summary = Teach(at, gathered, std::nullopt, NothingToLearn(resolved), plan);
  }
  if (!gathered.chosen->note.empty()) summary += "; " + gathered.chosen->note;
  if (record != nullptr && (signal.reward < 0 || signal.correction) &&
      tenant->cache.Reject(record->cache_key, record->answer, tenant->shown, plan.retired)) {
    summary += "; the answer left the cache";
  }
}

// ---- State --------------------------------------------------------------------------------------

void Respond::Save(int32_t partition, Changes& changes) {
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    tenant.records.Save(name, changes);
    tenant.cache.Save(name, changes);
    tenant.shown.Save(name, changes);
    tenant.lineages.Save(name, changes);
    tenant.restricted.Save(name, kRestrictedKind, changes);
  });
}

Result<Nothing> Respond::Load(int32_t partition, const Change& entry) {
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (entry.kind == AnswerRecords::kKind) return tenant.records.Load(entry, tenant.shown);
  if (entry.kind == AnswerCache::kKind) return tenant.cache.Load(entry, tenant.shown);
  if (entry.kind == ShownAnswers::kKind) return tenant.shown.Load(entry);
  if (entry.kind == kRestrictedKind) return tenant.restricted.Load(entry);
  if (Lineages::IsKind(entry.kind)) return tenant.lineages.Load(entry);
  return UnreadableEntry(entry);
}

void Respond::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
