#include "connectors/web/module/web_chat.h"

#include <algorithm>
#include <memory>

#include "stages/hash.h"
#include "stages/model/learn/quote.h"
#include "stages/state.h"

namespace nudge {

namespace {

constexpr char kTenant[] = "browser";
constexpr int32_t kPartition = 0;
constexpr uint8_t kFormat = 1;
constexpr size_t kDigestBytes = 32;

IndexOptions IndexFor(uint32_t passages) {
  IndexOptions options;
  options.passages = passages;
  options.documents_per_tenant = 2'000;
  options.chunks_per_tenant = 20'000;
  return options;
}

ChatFormat FormatFor(const ChatTokens& tokens, size_t window_tokens) {
  // A chat that cannot be rendered is one token too long for any window.
  return {[&tokens](const std::vector<ChatMessage>& chat) {
            const auto rendered = tokens.RenderTokens(chat);
            return rendered.ok() ? rendered->size() : SIZE_MAX;
          },
          window_tokens};
}

std::string_view View(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Error Unreadable() {
  return {Code::kUnreadableFile, "what was saved of documents and examples is damaged",
          "add them again"};
}

}  // namespace

WebChat::WebChat(const ChatTokens& tokens, const WebChatOptions& options)
    : tokens_(tokens),
      options_(options),
      prepare_(PrepareOptions{}),
      answers_(FormatFor(tokens, options.window_tokens), options.window_tokens),
      lessons_(FormatFor(tokens, options.step_tokens_max), options.step_tokens_max),
      index_(IndexFor(options.passages)) {}

// An event as it would have come to the index: prepared, and let through.
Result<Resolved> WebChat::Resolve(Event event) const {
  event.tenant = kTenant;
  auto prepared = prepare_.Apply(std::move(event));
  if (!prepared.ok()) return prepared.error();
  Resolved resolved;
  resolved.prepared = std::make_shared<const Prepared>(*std::move(prepared));
  return resolved;
}

Result<uint32_t> WebChat::AddDocument(std::string id, std::string title, std::string text) {
  if (id.empty()) {
    return Error{Code::kInvalidEvent, "a document without a name", "give it one"};
  }
  Event event;
  event.data = DocumentUpsert{std::move(id), std::move(text), std::move(title), {}};
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  const IndexSize size = index_.SizeOf(kPartition, kTenant);
  const IndexOptions most = IndexFor(options_.passages);
  const size_t passages = resolved->prepared->chunks.size();
  if (size.documents >= most.documents_per_tenant ||
      size.chunks + passages > most.chunks_per_tenant) {
    return Error{Code::kTenantLimit,
                 "there is room for " + std::to_string(most.documents_per_tenant) +
                     " documents of " + std::to_string(most.chunks_per_tenant) + " passages",
                 "remove a document"};
  }
  const auto found = index_.Apply(Sequence::Of(kPartition, ++events_), *resolved);
  if (!found.ok()) return found.error();
  return found->chunks_added;
}

uint32_t WebChat::RemoveDocument(const std::string& id) {
  Event event;
  event.tenant = kTenant;
  event.data = DocumentDelete{id};
  Resolved resolved;
  resolved.prepared = std::make_shared<const Prepared>(Prepared{event, {}, {}, {}, {}});
  const auto found = index_.Apply(Sequence::Of(kPartition, ++events_), resolved);
  return found.ok() ? found->chunks_removed : 0;
}

Result<std::vector<Passage>> WebChat::Search(std::string question) {
  Event event;
  event.data = Query{std::move(question), {}};
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  auto found = index_.Apply(Sequence::Of(kPartition, ++events_), *resolved);
  if (!found.ok()) return found.error();
  return std::move(found->passages);
}

size_t WebChat::documents() const {
  return index_.SizeOf(kPartition, kTenant).documents;
}

Result<Nothing> WebChat::SetSystem(std::string text) {
  if (text.empty()) {
    system_.clear();
    return Nothing{};
  }
  Event event;
  event.data = PromptUpsert{"default", std::move(text), {}};
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  system_ = std::get<PromptUpsert>(resolved->prepared->event.data).system;
  return Nothing{};
}

Result<Nothing> WebChat::AddExample(std::string question, std::string answer) {
  Event event;
  event.data = ExampleGiven{std::move(question), std::move(answer)};
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  const auto& example = std::get<ExampleGiven>(resolved->prepared->event.data);
  Put(example.query, example.answer);
  return Nothing{};
}

void WebChat::Put(std::string question, std::string answer) {
  const auto drop = [&](std::vector<Example>::iterator at) {
    words_.Remove(at->slot);
    examples_.erase(at);
  };
  const auto same = std::find_if(examples_.begin(), examples_.end(), [&](const Example& example) {
    return example.question == question;
  });
  if (same != examples_.end()) drop(same);
  if (examples_.size() == kExamplesMost) drop(examples_.begin());
  const uint32_t slot = words_.Add(LexicalTerms(question));
  examples_.push_back({std::move(question), std::move(answer), slot});
}

std::vector<FewShot> WebChat::ShotsFor(const std::string& question) const {
  LexicalScores scores;
  words_.Search(LexicalTerms(question), scores);
  std::vector<std::pair<double, size_t>> best;  // score, place
  for (size_t i = 0; i < examples_.size(); ++i) {
    const size_t slot = examples_[i].slot;
    const double score = slot < scores.of_slot.size() ? scores.of_slot[slot] : 0;
    if (score > 0) best.emplace_back(score, i);
  }
  std::sort(best.rbegin(), best.rend());
  std::vector<FewShot> shots;
  for (size_t i = 0; i < std::min(best.size(), kExamplesShown); ++i) {
    const Example& example = examples_[best[i].second];
    shots.push_back({example.question, example.answer, {}, {}});
  }
  return shots;
}

Result<WebChat::Prompt> WebChat::Ask(std::string question, std::vector<ChatMessage> turns,
                                     uint32_t tokens_max) {
  Event event;
  Query asked{std::move(question), {}};
  asked.messages = std::move(turns);
  event.data = std::move(asked);
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  auto found = index_.Apply(Sequence::Of(kPartition, ++events_), *resolved);
  if (!found.ok()) return found.error();
  const auto& query = std::get<Query>(resolved->prepared->event.data);
  Chosen chosen;
  chosen.system = system_;
  chosen.decoding.max_tokens = tokens_max;
  chosen.shots = ShotsFor(query.text);
  auto assembled = answers_.Apply(query, chosen, *found);
  if (!assembled.ok()) return assembled.error();
  auto tokens = tokens_.RenderTokens(assembled->chat);
  if (!tokens.ok()) return tokens.error();

  Prompt prompt{++answers_given_, *std::move(tokens), std::move(found->passages)};
  prompt.passages.resize(assembled->passages_shown);
  kept_[prompt.number] = {std::move(assembled->chat), query.text};
  if (kept_.size() > kAnswersKept) kept_.erase(kept_.begin());
  return prompt;
}

Result<std::vector<int32_t>> WebChat::AnswerTokens(const std::string& text) const {
  auto tokens = tokens_.Tokenize(text, false, false);
  if (tokens.ok()) tokens->push_back(tokens_.end_of_turn());
  return tokens;
}

std::optional<TrainSequence> WebChat::QuoteOf(const Kept& kept,
                                              const std::vector<int32_t>& prompt) const {
  const auto quote = QuoteIn(kept.chat, kept.question.size());
  if (!quote) return std::nullopt;
  const auto begin = tokens_.Tokenize(quote->begin, false, false);
  const auto rest = tokens_.Tokenize(quote->rest, false, false);
  if (!begin.ok() || !rest.ok() || rest->empty()) return std::nullopt;
  TrainSequence sequence;
  sequence.tokens = prompt;
  sequence.tokens.insert(sequence.tokens.end(), begin->begin(), begin->end());
  sequence.completion_begin = sequence.tokens.size();
  sequence.tokens.insert(sequence.tokens.end(), rest->begin(), rest->end());
  return sequence;
}

Result<TokenExample> WebChat::ExampleOf(uint64_t number, const std::string& shown, double rating,
                                        const std::optional<std::string>& correction) const {
  const auto kept = kept_.find(number);
  if (kept == kept_.end()) {
    return Error{Code::kUnknownQuery,
                 "answer " + std::to_string(number) + " is not among the last " +
                     std::to_string(kAnswersKept),
                 "ask again, and rate that answer"};
  }
  Event event;
  Feedback feedback;
  feedback.query_id = std::to_string(number);
  if (rating != 0) feedback.rating = rating;
  feedback.correction = correction;
  event.data = std::move(feedback);
  const auto resolved = Resolve(std::move(event));
  if (!resolved.ok()) return resolved.error();
  const Signal& signal = *resolved->prepared->signal;
  if (signal.reward == 0 && !signal.correction) {
    return Error{Code::kInvalidEvent, "the feedback says nothing",
                 "give a rating of -1 to 1, or a correction"};
  }
  const bool corrected = signal.correction.has_value();
  const bool longer = corrected && signal.correction->size() > shown.size();
  auto shortened = lessons_.Shorten(kept->second.chat, longer ? *signal.correction : shown);
  if (!shortened.ok()) return shortened.error();
  auto prompt = tokens_.RenderTokens(shortened->chat);
  if (!prompt.ok()) return prompt.error();

  TokenExample example;
  example.prompt = *std::move(prompt);
  example.reward = signal.reward;
  example.own_answer = true;
  example.place = number;
  example.quote = QuoteOf({shortened->chat, kept->second.question}, example.prompt);
  if (corrected) {
    auto tokens = AnswerTokens(*signal.correction);
    if (!tokens.ok()) return tokens.error();
    example.correction = *std::move(tokens);
    // There is nothing to push away from.
    if (*signal.correction == shown) return example;
  }
  auto tokens = AnswerTokens(shown);
  if (!tokens.ok()) return tokens.error();
  example.shown_completion = *std::move(tokens);
  return example;
}

std::string WebChat::Save() {
  Changes changes;
  index_.Save(kPartition, changes);
  for (Change& change : changes) {
    const std::pair key{change.kind, change.id};
    if (change.value) {
      rows_[key] = *std::move(change.value);
    } else {
      rows_.erase(key);
    }
  }
  ByteWriter out;
  out.U8(kFormat);
  out.U64(events_);
  out.Text(system_);
  out.U64(examples_.size());
  for (const Example& example : examples_) {
    out.Text(example.question);
    out.Text(example.answer);
  }
  out.U64(rows_.size());
  for (const auto& [key, value] : rows_) {
    out.Text(key.first);
    out.Text(key.second);
    out.Text(value);
  }
  std::string bytes = out.Take();
  const Sha256Digest digest = Sha256(bytes);
  return bytes.append(View(digest));
}

Result<Nothing> WebChat::Load(std::string_view bytes) {
  if (bytes.size() < kDigestBytes) return Unreadable();
  const std::string_view body = bytes.substr(0, bytes.size() - kDigestBytes);
  if (View(Sha256(body)) != bytes.substr(body.size())) return Unreadable();
  ByteReader in(body);
  WebChat loaded(tokens_, options_);
  if (in.U8() != kFormat) return Unreadable();
  loaded.events_ = in.U64();
  loaded.system_ = in.Text();
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    std::string question = in.Text();
    loaded.Put(std::move(question), in.Text());
  }
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    Change row{kTenant, in.Text(), in.Text(), in.Text()};
    if (auto read = loaded.index_.Load(kPartition, row); !read.ok()) return read.error();
    loaded.rows_[{row.kind, row.id}] = *std::move(row.value);
  }
  if (!in.complete()) return Unreadable();
  index_.Drop(kPartition);
  for (const auto& [key, value] : loaded.rows_) {
    const auto read = index_.Load(kPartition, {kTenant, key.first, key.second, value});
    if (!read.ok()) return read.error();
  }
  rows_ = std::move(loaded.rows_);
  system_ = std::move(loaded.system_);
  examples_ = std::move(loaded.examples_);
  words_ = std::move(loaded.words_);
  events_ = loaded.events_;
  return Nothing{};
}

}  // namespace nudge
