#include "stages/recall.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "stages/hash.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kRunFormat = 2;    // 1 is the same without content
constexpr uint8_t kOwnedFormat = 2;  // without the source; 1 is without the owner, too
constexpr uint8_t kDocumentFormat = 3;
constexpr uint64_t kEventsPerRun = 4096;

constexpr char kRunKind[] = "identity_run";
constexpr char kCommandRunKind[] = "command_run";
constexpr char kQueriesKind[] = "query_count";
constexpr char kDocumentKind[] = "known_document";
constexpr char kPromptKind[] = "known_prompt";
constexpr char kSaidKind[] = "said_of_answer";
constexpr char kQuestionKind[] = "conversation_question";

std::string Quoted(const std::string& text) {
  return "'" + text + "'";
}

Error Limit(const std::string& what, size_t limit, const std::string& option,
            const std::string& instead) {
  return {Code::kTenantLimit, what + ": the limit is " + std::to_string(limit),
          instead + ", or raise " + option};
}

Error Changed(const Event& event, uint64_t earlier) {
  return {Code::kChangedEvent,
          "id: " + Quoted(event.id) + " of source " + Quoted(event.source) + " is event " +
              std::to_string(Sequence{earlier}.ordinal()) +
              ", which had other content; this one changes nothing",
          "an id names one event for ever: send what changed under a new id"};
}

}  // namespace

// ---- Window -------------------------------------------------------------------------------------

const Recall::Seen* Recall::Window::Find(const Identity& identity) const {
  const auto number = number_of_.find(identity);
  return number == number_of_.end() ? nullptr : &events_[number->second - first_];
}

void Recall::Window::Add(const Seen& seen, size_t limit) {
  number_of_[seen.identity] = first_ + events_.size();
  events_.push_back(seen);
  Trim(limit);
}

void Recall::Window::Trim(size_t limit) {
  while (events_.size() > limit) {
    const auto number = number_of_.find(events_.front().identity);
    // While a state is loaded, a later event may have the same identity already: then the entry is
    // not this one's.
    if (number != number_of_.end() && number->second == first_) number_of_.erase(number);
    events_.pop_front();
    ++first_;
    while (!runs_.empty() && runs_.front().first + runs_.front().count <= first_) {
      gone_.push_back(runs_.front().first);
      runs_.pop_front();
    }
  }
}

void Recall::Window::Save(const std::string& tenant, const char* kind, Changes& changes) {
  for (const uint64_t row : gone_) changes.push_back({tenant, kind, RowId(row), std::nullopt});
  gone_.clear();
  const uint64_t end = first_ + events_.size();
  for (uint64_t begin = std::max(saved_until_, first_); begin < end;) {
    const Run run{begin, std::min(kEventsPerRun, end - begin)};
    ByteWriter writer;
    writer.U8(kRunFormat);
    writer.U64(run.count);
    for (uint64_t number = run.first; number < run.first + run.count; ++number) {
      const Seen& seen = events_[number - first_];
      writer.U64(seen.identity[0]);
      writer.U64(seen.identity[1]);
      writer.U64(seen.sequence);
      writer.U64(seen.query_number);
      writer.U64(seen.content);
    }
    changes.push_back({tenant, kind, RowId(run.first), writer.Take()});
    runs_.push_back(run);
    begin += run.count;
  }
  saved_until_ = end;
}

bool Recall::Window::Load(const Change& entry, size_t limit) {
  const std::optional<uint64_t> first = NumberOfRow(entry.id);
  if (!first || !entry.value) return false;
  if (runs_.empty() ? !events_.empty() : *first != first_ + events_.size()) return false;
  ByteReader reader(*entry.value);
  const uint8_t format = reader.U8();
  const bool known = format == kFormat || format == kRunFormat;
  std::vector<Seen> loaded(std::min<uint64_t>(reader.U64(), entry.value->size()));
  for (Seen& seen : loaded) {
    seen.identity[0] = reader.U64();
    seen.identity[1] = reader.U64();
    seen.sequence = reader.U64();
    seen.query_number = reader.U64();
    if (format == kRunFormat) seen.content = reader.U64();
  }
  if (!known || !reader.complete()) return false;
  if (events_.empty()) first_ = *first;
  runs_.push_back({*first, loaded.size()});
  for (const Seen& seen : loaded) {
    number_of_[seen.identity] = first_ + events_.size();
    events_.push_back(seen);
  }
  Trim(limit);
  saved_until_ = first_ + events_.size();
  return true;
}

// ---- Recall -------------------------------------------------------------------------------------

Recall::Recall(RecallOptions options) : options_(std::move(options)) {}

Recall::Identity Recall::IdentityOf(const TenantId& tenant, const std::string& source,
                                    const std::string& id) {
  const Sha256Digest digest = Sha256Parts({tenant, source, id});
  Identity identity{};
  for (size_t i = 0; i < 16; ++i) {
    identity[i / 8] |= static_cast<uint64_t>(digest[i]) << (8 * (i % 8));
  }
  return identity;
}

Result<Resolved> Recall::Apply(Sequence at, std::shared_ptr<const Prepared> prepared) {
  static const Tenant kNewTenant;
  const std::shared_ptr<const Prepared> given = prepared;
  const Event& event = given->event;
  const Identity identity = IdentityOf(event.tenant, event.source, event.id);
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  if (tenant != nullptr) {
    const Seen* seen = tenant->window.Find(identity);
    if (seen == nullptr) seen = tenant->commands.Find(identity);
    if (seen != nullptr) {
      const bool is_known = seen->content != 0 && prepared->content != 0;
      if (is_known && seen->content != prepared->content) return Changed(event, seen->sequence);
      return Resolved{std::move(prepared), Sequence{seen->sequence}, std::nullopt};
    }
  } else if (tenants_.Count(at.partition()) >= options_.tenants_per_partition) {
    return Limit("tenant " + event.tenant + " is one too many for its partition",
                 options_.tenants_per_partition, "limits.tenants_per_partition",
                 "use more partitions");
  }
  if (auto error = RefuseCommand(event)) return *std::move(error);
  if (prepared->imported.refusal) return *prepared->imported.refusal;
  const Tenant& before = tenant != nullptr ? *tenant : kNewTenant;
  if (auto error = RefuseDocument(before, *prepared)) return *std::move(error);
  if (auto error = RefusePrompt(before, event)) return *std::move(error);
  std::optional<Sequence> about;
  if (const auto* feedback = std::get_if<Feedback>(&event.data);
      feedback != nullptr && !feedback->query_id.empty()) {
    Result<Sequence> query = ResolveQuery(before, event);
    if (!query.ok()) return query.error();
    about = *query;
  }

  // From here on nothing is refused.
  if (tenant == nullptr) tenant = &tenants_.Make(at.partition(), event.tenant);
  uint64_t query_number = 0;
  if (std::holds_alternative<Query>(event.data)) {
    query_number = ++tenant->queries;
    tenant->queries_changed = true;
  }
  const Seen seen{identity, at.value, query_number, prepared->content};
  tenant->window.Add(seen, options_.identities_per_tenant);
  if (options_.keeps_commands && IsCommand(event)) {
    tenant->commands.Add(seen, options_.identities_per_tenant);
  }
  if (const auto* query = std::get_if<Query>(&event.data);
      query != nullptr && !query->conversation_id.empty()) {
    tenant->questions.Put(at.value,
                          {query->conversation_id, event.user, NameOf(event.source, event.id)});
  }
  if (const auto* forget = std::get_if<Forget>(&event.data);
      forget != nullptr && !forget->conversation_id.empty()) {
    auto named = std::make_shared<Prepared>(*prepared);
    std::get<Forget>(named->event.data).questions = QuestionsOf(*tenant, forget->conversation_id);
    prepared = std::move(named);
  }
  Resolved resolved{std::move(prepared), std::nullopt, about};
  Accept(*tenant, resolved);
  RecallSaid(*tenant, at, resolved);
  return resolved;
}

std::optional<Error> Recall::RefuseDocument(const Tenant& tenant, const Prepared& prepared) const {
  const auto* upsert = std::get_if<DocumentUpsert>(&prepared.event.data);
  if (upsert == nullptr) return std::nullopt;
  const Known* before = tenant.documents.Find(upsert->document_id);
  if (before == nullptr && tenant.documents.size() >= options_.documents_per_tenant) {
    return Limit("document " + Quoted(upsert->document_id) + " is one too many for its tenant",
                 options_.documents_per_tenant, "limits.documents_per_tenant", "delete a document");
  }
  const uint64_t chunks =
      tenant.chunks - (before != nullptr ? before->chunks : 0) + prepared.chunks.size();
  if (chunks > options_.chunks_per_tenant) {
    return Limit("document " + Quoted(upsert->document_id) + " would give its tenant " +
                     std::to_string(chunks) + " chunks",
                 options_.chunks_per_tenant, "limits.chunks_per_tenant", "delete documents");
  }
  return std::nullopt;
}

std::optional<Error> Recall::RefusePrompt(const Tenant& tenant, const Event& event) const {
  const auto known = [&](const std::string& prompt_id) {
    return prompt_id == options_.default_prompt_id || tenant.prompts.Find(prompt_id) != nullptr;
  };
  if (const auto* query = std::get_if<Query>(&event.data)) {
    const std::optional<std::string>& prompt_id = query->options.prompt_id;
    if (prompt_id && !known(*prompt_id)) {
      return Error{Code::kUnknownPrompt,
                   "data.options.prompt_id: there is no prompt " + Quoted(*prompt_id),
                   "send a nudge.prompt.upsert first, or leave prompt_id out"};
    }
  }
  if (const auto* upsert = std::get_if<PromptUpsert>(&event.data)) {
    if (!known(upsert->prompt_id) && tenant.prompts.size() + 1 >= options_.prompts_per_tenant) {
      return Limit("prompt " + Quoted(upsert->prompt_id) + " is one too many for its tenant",
                   options_.prompts_per_tenant, "limits.prompts_per_tenant", "delete a prompt");
    }
  }
  return std::nullopt;
}

std::optional<Error> Recall::RefuseCommand(const Event& event) const {
  using Action = AdapterCommand::Action;
  const auto* command = std::get_if<AdapterCommand>(&event.data);
  if (command == nullptr) return std::nullopt;
  if (!options_.adapters_by_user && !command->user.empty()) {
    return Error{Code::kInvalidEvent,
                 "data.user: user " + Quoted(command->user) +
                     " has no adapter of their own: adapt.scope is tenant",
                 "leave user out: the command is of the tenant's adapter"};
  }
  const bool is_of_one = command->action == Action::kRollback || command->action == Action::kImport;
  if (options_.adapters_by_user && is_of_one && command->user.empty()) {
    return Error{Code::kInvalidEvent,
                 std::string("data.user: missing: ") +
                     (command->action == Action::kImport ? "an import" : "a rollback") +
                     " is of one user's adapter where adapt.scope is user",
                 "name the user whose adapter it is of"};
  }
  return std::nullopt;
}

Result<Sequence> Recall::ResolveQuery(const Tenant& tenant, const Event& event) const {
  const Feedback& feedback = std::get<Feedback>(event.data);
  const std::string& source = feedback.query_source.empty() ? event.source : feedback.query_source;
  const std::string name = Quoted(feedback.query_id) + " of source " + Quoted(source);
  const Seen* seen = tenant.window.Find(IdentityOf(event.tenant, source, feedback.query_id));
  if (seen == nullptr) {
    return Error{
        Code::kUnknownQuery,
        "data.query_id: no event " + name + " is among this tenant's last " +
            std::to_string(options_.identities_per_tenant),
        "send it again once the question is answered; name another source by query_source; "
        "for one that is older or not nudge's, give query and completion inline"};
  }
  if (seen->query_number == 0) {
    return Error{Code::kUnknownQuery, "data.query_id: event " + name + " is not a query",
                 "give the id of the nudge.query that was answered"};
  }
  if (tenant.queries - seen->query_number >= options_.queries_per_tenant) {
    return Error{Code::kQueryTooOld,
                 "data.query_id: query " + name + " was " +
                     std::to_string(tenant.queries - seen->query_number) +
                     " queries ago; feedback is taken about the last " +
                     std::to_string(options_.queries_per_tenant),
                 "send feedback sooner, give the query and completion inline, or raise "
                 "limits.queries_per_tenant"};
  }
  return Sequence{seen->sequence};
}

void Recall::Accept(Tenant& tenant, Resolved& resolved) const {
  const Prepared& prepared = *resolved.prepared;
  const auto remove = [&](const std::string& document_id) {
    const Known* document = tenant.documents.Find(document_id);
    if (document == nullptr) return;
    tenant.chunks -= document->chunks;
    tenant.documents.Erase(document_id);
    resolved.removed.push_back(document_id);
  };
  if (const auto* upsert = std::get_if<DocumentUpsert>(&prepared.event.data)) {
    const Known* before = tenant.documents.Find(upsert->document_id);
    const auto chunks = static_cast<uint32_t>(prepared.chunks.size());
    tenant.chunks += chunks - uint64_t{before != nullptr ? before->chunks : 0};
    tenant.documents.Put(upsert->document_id, {chunks, prepared.event.user, prepared.event.source});
  } else if (const auto* removal = std::get_if<DocumentDelete>(&prepared.event.data)) {
    remove(removal->document_id);
  } else if (const auto* forget = std::get_if<Forget>(&prepared.event.data)) {
    ForgetSaid(tenant, *forget);
    ForgetQuestions(tenant, *forget);
    if (!forget->document_id.empty()) remove(forget->document_id);
    std::vector<std::string> theirs;
    for (const auto& [document_id, row] : tenant.documents.rows()) {
      if (forget->documents && row.value.owner == forget->user) theirs.push_back(document_id);
    }
    for (const std::string& document_id : theirs) remove(document_id);
  } else if (const auto* sync = std::get_if<SourceSync>(&prepared.event.data)) {
    std::vector<std::string> others;
    for (const auto& [document_id, row] : tenant.documents.rows()) {
      if (row.value.source != sync->source) continue;
      const bool stays = sync->document_ids.contains(document_id);
      resolved.synced += stays ? 1 : 0;
      if (!stays) others.push_back(document_id);
    }
    for (const std::string& document_id : others) remove(document_id);
  } else if (const auto* prompt = std::get_if<PromptUpsert>(&prepared.event.data)) {
    if (prompt->prompt_id != options_.default_prompt_id &&
        tenant.prompts.Find(prompt->prompt_id) == nullptr) {
      tenant.prompts.Put(prompt->prompt_id, {});
    }
  } else if (const auto* gone = std::get_if<PromptDelete>(&prepared.event.data)) {
    tenant.prompts.Erase(gone->prompt_id);
  }
}

// ---- What users said of answers -----------------------------------------------------------------

void Recall::RecallSaid(Tenant& tenant, Sequence at, Resolved& resolved) const {
  while (!tenant.said_last.empty() && tenant.said_last.begin()->first < tenant.window.oldest()) {
    tenant.said.Erase(tenant.said_last.begin()->second);
    tenant.said_last.erase(tenant.said_last.begin());
  }
  while (!tenant.questions.empty() &&
         tenant.questions.rows().begin()->first < tenant.window.oldest()) {
    tenant.questions.Erase(uint64_t{tenant.questions.rows().begin()->first});
  }
  const Event& event = resolved.prepared->event;
  const auto* feedback = std::get_if<Feedback>(&event.data);
  if (feedback == nullptr || event.user.empty()) return;
  const std::string& source =
      feedback->query_source.empty() ? event.source : feedback->query_source;
  const std::string answer =
      feedback->inline_answer
          ? Hex(Sha256Parts({feedback->inline_answer->query, feedback->inline_answer->completion}))
          : Hex(Sha256Parts({source, feedback->query_id, ""}));
  const Identity identity = IdentityOf(event.user, event.source, answer);
  const Said* before = tenant.said.Find(identity);
  if (before == nullptr && feedback->takes_back) return;
  if (before != nullptr && before->words.size() > options_.replacements_max) {
    resolved.unheard = Unheard::kOneTooMany;
    return;
  }
  const bool outspoken = feedback->rating || feedback->correction;
  if (before != nullptr && before->words.back().stands() && !outspoken && !feedback->takes_back) {
    resolved.unheard = Unheard::kSignalsOnly;
    return;
  }
  if (before == nullptr) {
    const EventName query = feedback->inline_answer ? 0 : NameOf(source, feedback->query_id);
    tenant.said.Put(identity, {event.user, query, {}});
  } else {
    for (const Said::Word& word : before->words) resolved.earlier.push_back({word.sequence});
    tenant.said_last.erase(before->words.back().sequence);
  }
  tenant.said.Change(identity)->words.push_back(
      {at.value, NameOf(event.source, event.id), outspoken});
  tenant.said_last[at.value] = identity;
}

std::vector<EventName> Recall::QuestionsOf(const Tenant& tenant,
                                           const std::string& conversation_id) {
  std::vector<EventName> questions;
  for (const auto& [at, row] : tenant.questions.rows()) {
    if (row.value.conversation_id == conversation_id) questions.push_back(row.value.event);
  }
  return questions;
}

void Recall::ForgetQuestions(Tenant& tenant, const Forget& forget) {
  const std::vector<EventName> events = forget.Events();
  std::vector<uint64_t> gone;
  for (const auto& [at, row] : tenant.questions.rows()) {
    const bool named = std::find(events.begin(), events.end(), row.value.event) != events.end();
    if (named || (!forget.user.empty() && row.value.user == forget.user)) gone.push_back(at);
  }
  for (const uint64_t at : gone) tenant.questions.Erase(at);
}

void Recall::ForgetSaid(Tenant& tenant, const Forget& forget) {
  for (const EventName event : forget.Events()) ForgetSaidOf(tenant, "", event);
  if (!forget.user.empty()) ForgetSaidOf(tenant, forget.user, 0);
}

// Of a user, or of an event: user is empty then.
void Recall::ForgetSaidOf(Tenant& tenant, const std::string& user, EventName event) {
  const bool of_event = user.empty();
  std::vector<Identity> concerned;
  for (const auto& [identity, row] : tenant.said.rows()) {
    const Said& said = row.value;
    const bool holds = std::any_of(said.words.begin(), said.words.end(),
                                   [&](const Said::Word& word) { return word.event == event; });
    if (of_event ? said.query == event || holds : said.user == user) concerned.push_back(identity);
  }
  for (const Identity& identity : concerned) {
    Said& said = *tenant.said.Change(identity);
    for (Said::Word& word : said.words) {
      if (of_event && word.event == event) word.event = 0;
    }
    const bool remains = std::any_of(said.words.begin(), said.words.end(),
                                     [](const Said::Word& word) { return word.event != 0; });
    if (remains && of_event && said.query != event) continue;
    tenant.said_last.erase(said.words.back().sequence);
    tenant.said.Erase(identity);
  }
}

// ---- State --------------------------------------------------------------------------------------

void Recall::Save(int32_t partition, Changes& changes) {
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    if (std::exchange(tenant.queries_changed, false)) {
      ByteWriter writer;
      writer.U8(kFormat);
      writer.U64(tenant.queries);
      changes.push_back({name, kQueriesKind, "", writer.Take()});
    }
    tenant.window.Save(name, kRunKind, changes);
    tenant.commands.Save(name, kCommandRunKind, changes);
    const auto encode_document = [](const Known& document) {
      ByteWriter writer;
      writer.U8(kDocumentFormat);
      writer.U32(document.chunks);
      writer.Text(document.owner);
      writer.Text(document.source);
      return writer.Take();
    };
    tenant.documents.Save(name, kDocumentKind, encode_document, changes);
    const auto encode_nothing = [](const Nothing&) { return std::string(1, char{kFormat}); };
    tenant.prompts.Save(name, kPromptKind, encode_nothing, changes);
    const auto encode_said = [](const Said& said) {
      ByteWriter writer;
      writer.U8(kFormat);
      writer.Text(said.user);
      writer.U64(said.query);
      writer.U64(said.words.size());
      for (const Said::Word& word : said.words) {
        writer.U64(word.sequence);
        writer.U64(word.event);
        writer.U8(word.outspoken);
      }
      return writer.Take();
    };
    tenant.said.Save(name, kSaidKind, encode_said, changes);
    const auto encode_question = [](const Question& question) {
      ByteWriter writer;
      writer.U8(kFormat);
      writer.Text(question.conversation_id);
      writer.Text(question.user);
      writer.U64(question.event);
      return writer.Take();
    };
    tenant.questions.Save(name, kQuestionKind, encode_question, changes);
  });
}

Result<Nothing> Recall::Load(int32_t partition, const Change& entry) {
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (entry.kind == kRunKind || entry.kind == kCommandRunKind) {
    Window& window = entry.kind == kRunKind ? tenant.window : tenant.commands;
    if (!window.Load(entry, options_.identities_per_tenant)) return UnreadableEntry(entry);
    return Nothing{};
  }
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const uint8_t format = reader.U8();
  const bool known = format == kFormat;
  if (entry.kind == kQueriesKind) {
    const uint64_t queries = reader.U64();
    if (!known || !reader.complete()) return UnreadableEntry(entry);
    tenant.queries = queries;
    tenant.queries_changed = false;
  } else if (entry.kind == kDocumentKind) {
    Known document{reader.U32(), {}, {}};
    if (format == kOwnedFormat || format == kDocumentFormat) document.owner = reader.Text();
    if (format == kDocumentFormat) document.source = reader.Text();
    const bool is_document = known || format == kOwnedFormat || format == kDocumentFormat;
    if (!is_document || !reader.complete()) return UnreadableEntry(entry);
    tenant.chunks += document.chunks;
    tenant.documents.Restore(entry.id, std::move(document));
  } else if (entry.kind == kPromptKind) {
    if (!known || !reader.complete()) return UnreadableEntry(entry);
    tenant.prompts.Restore(entry.id, {});
  } else if (entry.kind == kQuestionKind) {
    const std::optional<uint64_t> at = NumberOfRow(entry.id);
    Question question;
    question.conversation_id = reader.Text();
    question.user = reader.Text();
    question.event = reader.U64();
    if (!known || !at || !reader.complete()) return UnreadableEntry(entry);
    tenant.questions.Restore(*at, std::move(question));
  } else if (entry.kind == kSaidKind) {
    const std::optional<Identity> identity = NumbersOfRow<2>(entry.id);
    Said said;
    said.user = reader.Text();
    said.query = reader.U64();
    for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
      const uint64_t sequence = reader.U64();
      const EventName name = reader.U64();
      said.words.push_back({sequence, name, reader.U8() != 0});
    }
    if (!known || !identity || said.words.empty() || !reader.complete()) {
      return UnreadableEntry(entry);
    }
    tenant.said_last[said.words.back().sequence] = *identity;
    tenant.said.Restore(*identity, std::move(said));
  } else {
    return UnreadableEntry(entry);
  }
  return Nothing{};
}

void Recall::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
