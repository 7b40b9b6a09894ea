#include "stages/respond.h"

#include <algorithm>
#include <cmath>

#include "stages/decoding_codec.h"
#include "stages/hash.h"
#include "stages/text.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kShownFormat = 2;
constexpr char kRecordKind[] = "query_record";
constexpr char kCachedKind[] = "cached_answer";
constexpr char kShownKind[] = "shown_chat";

constexpr size_t kWhole = std::string::npos;

std::string Counted(uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string Moved(const std::string& what, uint64_t before, uint64_t now) {
  return what + " " + std::to_string(before) + " -> " + std::to_string(now);
}

std::vector<Citation> Cite(const std::vector<Passage>& passages, size_t count) {
  std::vector<Citation> citations;
  for (size_t i = 0; i < std::min(count, passages.size()); ++i) {
    const Passage& passage = passages[i];
    const bool cited =
        std::any_of(citations.begin(), citations.end(), [&](const Citation& citation) {
          return citation.document_id == passage.document_id && citation.version == passage.version;
        });
    if (!cited) citations.push_back({passage.document_id, passage.version, passage.score});
  }
  return citations;
}

uint64_t HashOf(const std::vector<FewShot>& shots) {
  if (shots.empty()) return 0;
  ByteWriter writer;
  for (const FewShot& shot : shots) {
    writer.Text(shot.query);
    writer.Text(shot.answer);
  }
  return SeedOf({writer.Take()});
}

// What a change of documents or prompts did.
std::string Receipt(const Event& event, const Found& found, const Planned& planned) {
  const std::string prompt = "prompt " + planned.prompt_id;
  const std::string prompt_version = ", version " + std::to_string(planned.prompt_version);
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
    return prompt + prompt_version + (planned.note.empty() ? "" : ": " + planned.note);
  }
  if (planned.prompts_changed > 0) return prompt + " deleted" + prompt_version;
  return prompt + " not deleted: " + planned.note;
}

}  // namespace

Respond::Respond(ChatFormat format, RespondOptions options)
    : format_(std::move(format)), options_(options) {
  if (!format_.count_tokens) throw StartError("respond: the model gives no way to count tokens");
}

Result<Plan> Respond::Apply(Sequence at, const Origin&, const Gathered& gathered) {
  const Event& event = gathered.resolved->prepared->event;
  if (!gathered.resolved->duplicate_of && std::holds_alternative<Query>(event.data)) {
    return Ask(at, gathered);
  }
  Plan plan;
  plan.outcome = {
      event.tenant, event.source, event.id, std::string(TypeName(event)), Applied{}, {}};
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  if (gathered.resolved->duplicate_of) {
    summary = "duplicate of event " + std::to_string(gathered.resolved->duplicate_of->ordinal());
  } else if (const auto* command = std::get_if<AdapterCommand>(&event.data)) {
    Obey(*command, gathered, plan);
  } else if (const auto* forget = std::get_if<Forget>(&event.data)) {
    Purge(at, *forget, gathered, plan);
  } else if (std::holds_alternative<Feedback>(event.data) ||
             std::holds_alternative<ExampleGiven>(event.data)) {
    Receive(at, gathered, plan);
  } else {
    summary = Receipt(event, *gathered.found, *gathered.planned);
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

Result<Plan> Respond::Ask(Sequence at, const Gathered& gathered) {
  const Event& event = gathered.resolved->prepared->event;
  const Query& query = std::get<Query>(event.data);
  const Planned& planned = *gathered.planned;
  Response response;
  response.prompt_id = planned.prompt_id;
  response.prompt_version = planned.prompt_version;
  response.decoding_name = planned.decoding_name;
  response.decoding = planned.decoding;
  response.propensity = planned.propensity;
  response.adapter_version = gathered.pinned->serve;
  if (response.adapter_version == 0) response.adapter_digest = "base";

  Plan plan;
  Record record{at.value, event.user, {}};
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  const bool cacheable = Cacheable(query, planned);
  Cached rest;
  if (cacheable) {
    record.cache_key = KeyOf(query, planned);
    rest = Rest(gathered);
    response.cache_why = WhyNotCached(tenant, record.cache_key, planned, rest);
    response.cache_hit = response.cache_why.empty();
  } else {
    response.cache_why = options_.cache_entries_per_tenant == 0 ? "the cache is off"
                                                                : "sampled without a fixed seed";
  }
  if (response.cache_hit) {
    Cached& cached = *tenant->cache.Change(record.cache_key);
    tenant->by_last_use.erase(cached.used);
    cached.used = at.value;
    tenant->by_last_use[at.value] = record.cache_key;
    record.answer = cached.answer;
    response.cache_why = "exact text, same passages, prompt and adapter";
    response.citations = Cite(gathered.found->passages, cached.passages_shown);
    plan.answer_of = Sequence{cached.answer};
    Remember(*tenant, at, std::move(record), plan);
  } else {
    Result<Assembled> assembled = Assemble(query, planned, *gathered.found);
    if (!assembled.ok()) return assembled.error();
    const uint64_t seed =
        query.options.seed ? *query.options.seed : SeedOf({event.tenant, event.source, event.id});
    response.citations = Cite(gathered.found->passages, assembled->passages_shown);
    Shown shown{std::move(assembled->chat), {}, event.user, !planned.shots.empty()};
    for (const Citation& citation : response.citations) {
      shown.documents.insert(citation.document_id);
    }
    tenant = &tenants_.Make(at.partition(), event.tenant);
    tenant->answers.Put(at.value, EncodeShown(shown));
    plan.generate =
        Generate{std::move(shown.chat), response.adapter_version, planned.decoding, seed};
    const CacheKey key = record.cache_key;
    Remember(*tenant, at, std::move(record), plan);
    if (cacheable) {
      rest.answer = rest.used = at.value;
      rest.passages_shown = static_cast<uint32_t>(assembled->passages_shown);
      PutCached(*tenant, key, std::move(rest), plan);
    }
  }
  plan.outcome = {event.tenant, event.source, event.id, "nudge.query", std::move(response), {}};
  return plan;
}

std::vector<Respond::Level> Respond::Levels(const Planned& planned, const Found& found) {
  std::vector<Level> levels;
  const size_t shots = planned.shots.size();
  for (size_t passages = found.passages.size(); passages > 1; --passages) {
    levels.push_back({passages, shots, kWhole});
  }
  const size_t one = found.passages.empty() ? 0 : 1;
  for (size_t left = shots + 1; left-- > 0;) levels.push_back({one, left, kWhole});
  if (one == 1) {
    size_t bytes = found.passages.front().text.size();
    const std::vector<std::string_view> sentences = Sentences(found.passages.front().text);
    for (size_t i = sentences.size(); i-- > 1;) {
      bytes -= sentences[i].size();
      levels.push_back({1, 0, bytes});
    }
    levels.push_back({0, 0, kWhole});
  }
  return levels;
}

std::vector<ChatMessage> Respond::Render(const Query& query, const Planned& planned,
                                         const Found& found, const Level& level) {
  std::vector<ChatMessage> chat;
  if (!planned.system.empty()) chat.push_back({"system", planned.system});
  for (size_t i = 0; i < level.shots; ++i) {
    chat.push_back({"user", planned.shots[i].query});
    chat.push_back({"assistant", planned.shots[i].answer});
  }
  std::string text;
  for (size_t i = 0; i < level.passages; ++i) {
    const Passage& passage = found.passages[i];
    text += "[" + std::to_string(i + 1) + "] ";
    if (!passage.title.empty()) text += passage.title + "\n";
    text += passage.text.substr(0, i == 0 ? level.first_passage_bytes : kWhole);
    while (text.ends_with(' ') || text.ends_with('\n')) text.pop_back();
    text += "\n\n";
  }
  text += level.passages > 0 ? "Question: " + query.text : query.text;
  chat.push_back({"user", std::move(text)});
  return chat;
}

// The first level that fits, found by counting rarely: levels shrink, so a guess by bytes and its
// neighbour mostly settle it, else bisection.
Result<Respond::Assembled> Respond::Assemble(const Query& query, const Planned& planned,
                                             const Found& found) const {
  const size_t max_tokens = planned.decoding.max_tokens;
  const size_t room = format_.window_tokens - std::min(format_.window_tokens, max_tokens);
  const size_t budget = std::min(options_.prompt_tokens_max, room);
  std::vector<ChatMessage> chat =
      Render(query, planned, found, {found.passages.size(), planned.shots.size(), kWhole});
  const size_t all_tokens = format_.count_tokens(chat);
  if (all_tokens <= budget) return Assembled{std::move(chat), found.passages.size()};

  const std::vector<Level> levels = Levels(planned, found);
  const auto bytes = [](const std::vector<ChatMessage>& messages) {
    size_t sum = 1;
    for (const ChatMessage& message : messages) sum += message.text.size();
    return sum;
  };
  size_t too_big = 0;  // levels[too_big] does not fit
  size_t fits = levels.size();
  std::vector<ChatMessage> fitting;
  const auto probe = [&](size_t level) {
    std::vector<ChatMessage> shorter = Render(query, planned, found, levels[level]);
    if (format_.count_tokens(shorter) > budget) {
      too_big = level;
      return false;
    }
    fits = level;
    fitting = std::move(shorter);
    return true;
  };
  const double aim = static_cast<double>(bytes(chat)) * static_cast<double>(budget) /
                     static_cast<double>(all_tokens);
  size_t low = 1;
  for (size_t high = levels.size(); low < high;) {  // the guess: no tokens are counted here
    const size_t middle = (low + high) / 2;
    const size_t size = bytes(Render(query, planned, found, levels[middle]));
    if (static_cast<double>(size) <= aim) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (low < levels.size()) {
    const bool fitted = probe(low);
    const size_t neighbour = fitted ? low - 1 : low + 1;
    if (neighbour > too_big && neighbour < fits) probe(neighbour);
  }
  while (too_big + 1 < fits) probe((too_big + fits) / 2);
  if (fits < levels.size()) return Assembled{std::move(fitting), levels[fits].passages};

  chat = Render(query, planned, found, levels.back());
  const size_t least_tokens = format_.count_tokens(chat);
  if (least_tokens <= room) return Assembled{std::move(chat), 0};
  return Error{Code::kTooLarge,
               "text: system prompt and question are " + std::to_string(least_tokens) +
                   " tokens and the answer may take " + std::to_string(max_tokens) +
                   ", the window is " + std::to_string(format_.window_tokens),
               "shorten the question or lower options.max_tokens"};
}

// ---- Cache --------------------------------------------------------------------------------------

bool Respond::Cacheable(const Query& query, const Planned& planned) const {
  return options_.cache_entries_per_tenant > 0 &&
         (planned.decoding.temperature == 0 || query.options.seed);
}

Respond::CacheKey Respond::KeyOf(const Query& query, const Planned& planned) {
  ByteWriter variant;
  variant.Text(planned.prompt_id);
  WriteDecoding(variant, planned.decoding);
  if (planned.decoding.temperature > 0) variant.U64(*query.options.seed);
  const Sha256Digest question = Sha256(NormalisedKey(query.text));
  CacheKey key{};
  for (size_t i = 0; i < 16; ++i) key[i / 8] |= uint64_t{question[i]} << (8 * (i % 8));
  key[2] = SeedOf({variant.Take()});
  return key;
}

// Empty: the entry at key holds.
std::string Respond::WhyNotCached(const Tenant* tenant, const CacheKey& key, const Planned& planned,
                                  const Cached& now) {
  if (tenant == nullptr) return "first time asked";
  if (const Cached* cached = tenant->cache.Find(key)) return WhyStale(*cached, now);
  const auto other = tenant->cache.rows().lower_bound({key[0], key[1], 0});
  if (other == tenant->cache.rows().end() || other->first[0] != key[0] ||
      other->first[1] != key[1]) {
    return "first time asked";
  }
  const Cached& cached = other->second.value;
  if (cached.prompt_id != planned.prompt_id) {
    return "prompt " + cached.prompt_id + " -> " + planned.prompt_id;
  }
  if (cached.decoding_name != planned.decoding_name) {
    return "decoding " + cached.decoding_name + " -> " + planned.decoding_name;
  }
  return cached.decoding != planned.decoding ? "decoding options changed" : "another seed";
}

std::string Respond::WhyStale(const Cached& cached, const Cached& now) {
  if (cached.rejected) return "the earlier answer got negative feedback";
  if (cached.adapter != now.adapter) return Moved("adapter", cached.adapter, now.adapter);
  if (cached.prompt_version != now.prompt_version) {
    return Moved("prompt " + now.prompt_id, cached.prompt_version, now.prompt_version);
  }
  if (cached.shots != now.shots) return "few-shots changed";
  if (cached.passages == now.passages) return {};
  const std::vector<PassageId> earlier = DecodePassages(cached.passages);
  const std::vector<PassageId> today = DecodePassages(now.passages);
  const auto find = [](const std::vector<PassageId>& passages, const std::string& document_id) {
    return std::find_if(passages.begin(), passages.end(), [&](const PassageId& passage) {
      return passage.document_id == document_id;
    });
  };
  for (const PassageId& before : earlier) {
    const auto now_there = find(today, before.document_id);
    if (now_there != today.end() && now_there->version != before.version) {
      return Moved("document " + before.document_id, before.version, now_there->version);
    }
  }
  for (const PassageId& before : earlier) {
    if (find(today, before.document_id) == today.end()) {
      return "document " + before.document_id + " no longer found";
    }
  }
  for (const PassageId& passage : today) {
    if (find(earlier, passage.document_id) == earlier.end()) {
      return "document " + passage.document_id + " newly found";
    }
  }
  return "other passages of the same documents";
}

// All that an answer rests on, as it is now.
Respond::Cached Respond::Rest(const Gathered& gathered) {
  const Planned& planned = *gathered.planned;
  Cached rest;
  rest.passages = EncodePassages(gathered.found->passages);
  rest.prompt_id = planned.prompt_id;
  rest.prompt_version = planned.prompt_version;
  rest.decoding_name = planned.decoding_name;
  rest.decoding = planned.decoding;
  rest.shots = HashOf(planned.shots);
  rest.adapter = gathered.pinned->serve;
  return rest;
}

void Respond::PutCached(Tenant& tenant, const CacheKey& key, Cached cached, Plan& plan) const {
  EraseCached(tenant, key, plan);
  ++tenant.references[cached.answer];
  tenant.by_last_use[cached.used] = key;
  tenant.cache.Put(key, std::move(cached));
  if (tenant.cache.size() > options_.cache_entries_per_tenant) {
    const CacheKey oldest = tenant.by_last_use.begin()->second;
    EraseCached(tenant, oldest, plan);
  }
}

void Respond::EraseCached(Tenant& tenant, const CacheKey& key, Plan& plan) {
  const Cached* cached = tenant.cache.Find(key);
  if (cached == nullptr) return;
  tenant.by_last_use.erase(cached->used);
  if (!cached->rejected) Release(tenant, cached->answer, plan);
  tenant.cache.Erase(key);
}

// ---- Records ------------------------------------------------------------------------------------

void Respond::Remember(Tenant& tenant, Sequence at, Record record, Plan& plan) const {
  ++tenant.references[record.answer];
  tenant.records.Put(at.value, std::move(record));
  if (tenant.records.size() > std::max<size_t>(options_.records_per_tenant, 1)) {
    const auto& [oldest, row] = *tenant.records.rows().begin();
    Release(tenant, row.value.answer, plan);
    tenant.records.Erase(uint64_t{oldest});
  }
}

void Respond::Release(Tenant& tenant, uint64_t answer, Plan& plan) {
  const auto references = tenant.references.find(answer);
  ENSURE(references != tenant.references.end());
  if (--references->second > 0) return;
  tenant.references.erase(references);
  tenant.answers.Erase(answer);
  plan.retired.push_back({answer});
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
void Respond::Receive(Sequence at, const Gathered& gathered, Plan& plan) {
  const Prepared& prepared = *gathered.resolved->prepared;
  const Planned& planned = *gathered.planned;
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  Exercise exercise;
  const auto plain_chat = [&](const std::string& question) {
    if (!planned.system.empty()) exercise.chat.push_back({"system", planned.system});
    exercise.chat.push_back({"user", question});
  };
  exercise.user = prepared.event.user;
  if (const auto* example = std::get_if<ExampleGiven>(&prepared.event.data)) {
    plain_chat(example->query);
    exercise.shown = example->answer;
    exercise.reward = 1;
    summary = planned.examples_changed > 0 ? "example kept" : "example";
    if (!planned.note.empty()) summary += " (" + planned.note + ")";
    summary += "; " + Learning(gathered, true);
  } else {
    const Feedback& feedback = std::get<Feedback>(prepared.event.data);
    const Signal signal = prepared.signal.value_or(Signal{});
    summary = Learning(gathered, signal.reward != 0 || signal.correction);
    exercise.reward = signal.reward;
    exercise.correction = signal.correction;
    Tenant* tenant = tenants_.Find(at.partition(), prepared.event.tenant);
    const std::optional<Sequence>& about = gathered.resolved->about;
    const Record* record =
        about && tenant != nullptr ? tenant->records.Find(about->value) : nullptr;
    const std::string* bytes = record != nullptr ? tenant->answers.Find(record->answer) : nullptr;
    if (bytes != nullptr) {
      Shown shown = *DecodeShown(*bytes);
      exercise.chat = std::move(shown.chat);
      exercise.shown = Sequence{record->answer};
      exercise.documents = std::move(shown.documents);
      if (exercise.user.empty()) exercise.user = record->user;
    } else if (feedback.inline_answer) {
      plain_chat(feedback.inline_answer->query);
      exercise.shown = feedback.inline_answer->completion;
    } else {
      exercise = {};
      exercise.shown = std::string();
      if (gathered.pinned->step) summary += " and changes nothing: the answer is not on record";
    }
    if (!planned.note.empty()) summary += "; " + planned.note;
    if (record != nullptr && (signal.reward < 0 || signal.correction) &&
        Reject(*tenant, *record, plan)) {
      summary += "; the answer left the cache";
    }
  }
  if (gathered.pinned->step) plan.lesson = Lesson{std::move(exercise), {}, 0};
}

bool Respond::Reject(Tenant& tenant, const Record& record, Plan& plan) const {
  const Cached* cached = tenant.cache.Find(record.cache_key);
  if (cached == nullptr || cached->rejected || cached->answer != record.answer) return false;
  tenant.cache.Change(record.cache_key)->rejected = true;
  Release(tenant, record.answer, plan);
  return true;
}

void Respond::Obey(const AdapterCommand& command, const Gathered& gathered, Plan& plan) const {
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

void Respond::Purge(Sequence at, const Forget& forget, const Gathered& gathered, Plan& plan) {
  size_t answers = 0;
  size_t cached = 0;
  if (Tenant* tenant = tenants_.Find(at.partition(), gathered.resolved->prepared->event.tenant)) {
    // Which few-shots an answer was shown is not on record, so that with a user's examples all
    // answers with few-shots go.
    const bool shots_too = gathered.planned->examples_changed > 0;
    std::set<uint64_t> gone;
    for (const auto& [answer, row] : tenant->answers.rows()) {
      if (Concerns(row.value, forget, shots_too)) gone.insert(gone.end(), answer);
    }
    std::vector<uint64_t> records;
    for (const auto& [sequence, row] : tenant->records.rows()) {
      if (gone.contains(row.value.answer) ||
          (!forget.user.empty() && row.value.user == forget.user)) {
        records.push_back(sequence);
      }
    }
    std::vector<CacheKey> keys;
    for (const auto& [key, row] : tenant->cache.rows()) {
      if (gone.contains(row.value.answer)) keys.push_back(key);
    }
    for (const uint64_t sequence : records) {
      Release(*tenant, tenant->records.Find(sequence)->answer, plan);
      tenant->records.Erase(sequence);
    }
    for (const CacheKey& key : keys) EraseCached(*tenant, key, plan);
    answers = records.size();
    cached = keys.size();
  }
  std::string& summary = std::get<Applied>(plan.outcome.what).summary;
  summary = forget.user.empty() ? "forgot document " + forget.document_id + ": " +
                                      Counted(gathered.found->chunks_removed, "chunk")
                                : "forgot user " + forget.user + ": " +
                                      Counted(gathered.planned->examples_changed, "example");
  summary += ", " + Counted(answers, "query record") + ", " + Counted(cached, "cached answer");
  if (const std::optional<Step>& step = gathered.pinned->step) {
    plan.lesson = Lesson{Unlearn{forget.user, forget.document_id}, {}, 0};
    summary += "; training step " + std::to_string(step->number) +
               " rebuilds the adapter as version " + std::to_string(step->makes.value_or(0));
  }
}

// ---- State --------------------------------------------------------------------------------------

std::string Respond::EncodeShown(const Shown& shown) {
  ByteWriter writer;
  writer.U8(kShownFormat);
  writer.Text(shown.user);
  writer.U8(shown.few_shots);
  writer.U64(shown.documents.size());
  for (const std::string& document_id : shown.documents) writer.Text(document_id);
  writer.U64(shown.chat.size());
  for (const ChatMessage& message : shown.chat) {
    writer.Text(message.role);
    writer.Text(message.text);
  }
  return writer.Take();
}

std::optional<Respond::Shown> Respond::DecodeShown(std::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.U8() != kShownFormat) return std::nullopt;
  Shown shown;
  shown.user = reader.Text();
  shown.few_shots = reader.U8() != 0;
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    shown.documents.insert(reader.Text());
  }
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    ChatMessage message;
    message.role = reader.Text();
    message.text = reader.Text();
    shown.chat.push_back(std::move(message));
  }
  if (!reader.complete()) return std::nullopt;
  return shown;
}

// Of bytes that EncodeShown made: whether the answer has to do with what is forgotten. Reads their
// first part, without a copy.
bool Respond::Concerns(std::string_view shown, const Forget& forget, bool shots_too) {
  ByteReader reader(shown);
  reader.U8();
  const std::string_view user = reader.View();
  const bool few_shots = reader.U8() != 0;
  if (!forget.user.empty() && (user == forget.user || (shots_too && few_shots))) return true;
  if (forget.document_id.empty()) return false;
  for (uint64_t left = reader.U64(); left > 0; --left) {
    if (reader.View() == forget.document_id) return true;
  }
  return false;
}

std::string Respond::EncodePassages(const std::vector<Passage>& passages) {
  ByteWriter writer;
  for (const Passage& passage : passages) {
    writer.Text(passage.document_id);
    writer.U32(passage.version);
    writer.U32(passage.chunk);
  }
  return writer.Take();
}

std::vector<Respond::PassageId> Respond::DecodePassages(std::string_view bytes) {
  ByteReader reader(bytes);
  std::vector<PassageId> passages;
  while (!reader.complete() && !reader.failed()) {
    PassageId passage;
    passage.document_id = reader.Text();
    passage.version = reader.U32();
    passage.chunk = reader.U32();
    passages.push_back(std::move(passage));
  }
  return passages;
}

void Respond::Save(int32_t partition, Changes& changes) {
  const auto encode_record = [](const Record& record) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U64(record.answer);
    writer.Text(record.user);
    for (const uint64_t number : record.cache_key) writer.U64(number);
    return writer.Take();
  };
  const auto encode_cached = [](const Cached& cached) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U64(cached.answer);
    writer.U8(cached.rejected);
    writer.U64(cached.used);
    writer.U32(cached.passages_shown);
    writer.Text(cached.passages);
    writer.Text(cached.prompt_id);
    writer.U32(cached.prompt_version);
    writer.Text(cached.decoding_name);
    WriteDecoding(writer, cached.decoding);
    writer.U64(cached.shots);
    writer.U32(cached.adapter);
    return writer.Take();
  };
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    tenant.records.Save(name, kRecordKind, encode_record, changes);
    tenant.cache.Save(name, kCachedKind, encode_cached, changes);
    tenant.answers.Save(
        name, kShownKind, [](const std::string& bytes) { return bytes; }, changes);
  });
}

Result<Nothing> Respond::Load(int32_t partition, const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const uint8_t format = reader.U8();
  if (format != (entry.kind == kShownKind ? kShownFormat : kFormat)) return UnreadableEntry(entry);
  const std::optional<uint64_t> number = NumberOfRow(entry.id);
  const auto key = NumbersOfRow<3>(entry.id);
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (entry.kind == kRecordKind && number) {
    Record record;
    record.answer = reader.U64();
    record.user = reader.Text();
    for (uint64_t& key_part : record.cache_key) key_part = reader.U64();
    if (!reader.complete()) return UnreadableEntry(entry);
    ++tenant.references[record.answer];
    tenant.records.Restore(*number, std::move(record));
  } else if (entry.kind == kCachedKind && key) {
    Cached cached;
    cached.answer = reader.U64();
    cached.rejected = reader.U8() != 0;
    cached.used = reader.U64();
    cached.passages_shown = reader.U32();
    cached.passages = reader.Text();
    cached.prompt_id = reader.Text();
    cached.prompt_version = reader.U32();
    cached.decoding_name = reader.Text();
    cached.decoding = ReadDecoding(reader);
    cached.shots = reader.U64();
    cached.adapter = reader.U32();
    if (!reader.complete()) return UnreadableEntry(entry);
    if (!cached.rejected) ++tenant.references[cached.answer];
    tenant.by_last_use[cached.used] = *key;
    tenant.cache.Restore(*key, std::move(cached));
  } else if (entry.kind == kShownKind && number) {
    if (!DecodeShown(*entry.value)) return UnreadableEntry(entry);
    tenant.answers.Restore(*number, *entry.value);
  } else {
    return UnreadableEntry(entry);
  }
  return Nothing{};
}

void Respond::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
