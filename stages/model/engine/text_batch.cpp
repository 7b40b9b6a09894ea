#include "stages/model/engine/text_batch.h"

#include <algorithm>

namespace nudge {
namespace {

// Of one pass, where more than the last token's logits of a text are wanted: bounds the buffer.
constexpr size_t kScoredTokens = 16;

}  // namespace

size_t TextBatch::KeysBytes(const LlamaShape& shape, size_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens * KeyPages::PageBytes(shape);
}

TextBatch::TextBatch(std::shared_ptr<const PackedModel> model, const BatchLimits& limits)
    : limits_(limits),
      pool_(model->shape(), limits.keys_bytes_max),
      cache_(pool_, limits.prefix_bytes_max),
      pass_(model, {.rows_max = limits.texts_max + limits.prompt_tokens_max,
                    .positions_max = limits.positions_max}),
      vocabulary_(model->shape().vocabulary),
      logits_((limits.texts_max + kScoredTokens) * vocabulary_) {
  ENSURE(limits.keys_bytes_max >= KeysBytes(model->shape(), limits.positions_max));
}

void TextBatch::Add(const BatchedText& text) {
  ENSURE(text.text->tokens().size() <= limits_.positions_max);
  entries_.push_back({.of = text, .sequence = KeySequence(pool_)});
}

std::vector<TextBatch::End> TextBatch::Step(const ParallelFor& parallel) {
  std::vector<End> ends;
  EndCancelled(ends);
  BeginTexts();
  PlanParts();
  Run(parallel);
  Take(parallel);
  for (Part& part : parts_) {
    Entry& entry = *part.entry;
    entry.ended = !part.more.ok() || !*part.more;
    const bool is_first = part.rows.wants != WantedLogits::kNone && !entry.drawn;
    if (part.more.ok() && (entry.ended || is_first)) Keep(entry);
    if (part.rows.wants != WantedLogits::kNone) entry.drawn = true;
    if (!entry.ended) continue;
    ends.push_back({entry.of.text, std::nullopt});
    if (!part.more.ok()) ends.back().error = part.more.error();
  }
  parts_.clear();
  std::erase_if(entries_, [](const Entry& entry) { return entry.ended; });
  return ends;
}

void TextBatch::EndCancelled(std::vector<End>& ends) {
  std::erase_if(entries_, [&](const Entry& entry) {
    if (!entry.of.text->cancelled()) return false;
    ends.push_back({entry.of.text, Error{Code::kModelFailed, "cancelled", ""}});
    return true;
  });
}

void TextBatch::BeginTexts() {
  auto begun = static_cast<size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) { return e.begun; }));
  for (Entry& entry : entries_) {
    if (entry.begun) continue;
    if (begun == limits_.texts_max || !Begin(entry)) return;
    ++begun;
  }
}

bool TextBatch::Begin(Entry& entry) {
  const std::span<const int32_t> tokens = entry.of.text->tokens();
  if (!entry.of.owner.tenant.empty()) entry.sequence.Share(cache_.Find(entry.of.owner, tokens));
  const size_t kept = entry.sequence.length();
  while (!entry.sequence.Reserve(tokens.size() - kept).ok()) {
    const size_t missing = (tokens.size() - kept + kPageTokens - 1) / kPageTokens;
    // Others' beginnings do not go where they would not help.
    if (pool_.free() + cache_.pages() >= missing && cache_.EvictOne()) continue;
    entry.sequence.Clear();
    return false;
  }
  read_.kept += kept;
  entry.begun = true;
  return true;
}

// Room for the next tokens of the text at this place. False: those before it have all pages.
bool TextBatch::Grow(size_t at, size_t tokens) {
  while (!entries_[at].sequence.Reserve(tokens).ok()) {
    if (cache_.EvictOne()) continue;
    const auto last = std::find_if(entries_.rbegin(), entries_.rend(),
                                   [](const Entry& entry) { return entry.begun; });
    if (&*last == &entries_[at]) return false;
    last->sequence.Clear();
    last->begun = false;
  }
  return true;
}

void TextBatch::PlanParts() {
  size_t prompts = limits_.prompt_tokens_max;
  size_t scored = kScoredTokens;
  for (size_t at = 0; at < entries_.size(); ++at) {
    Entry& entry = entries_[at];
    if (!entry.begun) continue;
    const size_t length = entry.sequence.length();
    const size_t size = entry.of.text->tokens().size();
    const size_t wanted = entry.of.text->wanted_from();
    ENSURE(length < size && wanted < size);
    if (size - length == 1) {
      if (Grow(at, 1)) AddPart(entry, 1, WantedLogits::kLast);
      continue;
    }
    size_t count = std::min(size - length, prompts);
    WantedLogits wants = WantedLogits::kNone;
    if (length >= wanted) {
      count = std::min(count, scored);
      scored -= count;
      wants = WantedLogits::kAll;
    } else if (length + count == size && wanted == size - 1) {
      wants = WantedLogits::kLast;
    } else {
      count = std::min(count, wanted - length);
    }
    if (count == 0) continue;
    prompts -= count;
    if (Grow(at, count)) AddPart(entry, count, wants);
  }
}

void TextBatch::AddPart(Entry& entry, size_t tokens, WantedLogits wants) {
  const EngineRows rows{&entry.sequence,
                        entry.of.text->tokens().subspan(entry.sequence.length(), tokens),
                        entry.of.adapter, wants};
  const size_t begin = parts_.empty()
                           ? 0
                           : static_cast<size_t>(parts_.back().logits.data() - logits_.data()) +
                                 parts_.back().logits.size();
  const size_t wanted = EnginePass::WantedRows({&rows, 1}) * vocabulary_;
  parts_.push_back({&entry, rows, std::span(logits_).subspan(begin, wanted)});
}

void TextBatch::Run(const ParallelFor& parallel) {
  if (parts_.empty()) return;
  std::vector<EngineRows> batch;
  for (const Part& part : parts_) batch.push_back(part.rows);
  if (!pass_.Run(batch, parallel, logits_).ok()) {
    // One of them cannot be read: each by itself, so that the others are.
    for (Part& part : parts_) {
      const auto ran = pass_.Run({&part.rows, 1}, parallel, part.logits);
      if (!ran.ok()) part.more = ran.error();
    }
  }
  for (const Part& part : parts_) {
    if (part.more.ok()) read_.computed += part.rows.tokens.size();
  }
}

void TextBatch::Take(const ParallelFor& parallel) {
  std::vector<Part*> wanted;
  for (Part& part : parts_) {
    if (part.more.ok() && part.rows.wants != WantedLogits::kNone) wanted.push_back(&part);
  }
  const auto take = [&](size_t i) {
    wanted[i]->more = wanted[i]->entry->of.text->Take(wanted[i]->logits);
  };
  if (wanted.size() == 1) return take(0);
  RunParts(parallel, wanted.size(), take);
}

void TextBatch::Keep(const Entry& entry) {
  if (entry.of.owner.tenant.empty() || !entry.of.text->may_be_kept()) return;
  cache_.Keep(entry.of.owner, entry.of.text->tokens().first(entry.sequence.length()),
              entry.sequence);
}

}  // namespace nudge
