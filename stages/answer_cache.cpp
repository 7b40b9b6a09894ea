#include "stages/answer_cache.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "stages/decoding_codec.h"
#include "stages/hash.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

struct PassageId {
  std::string document_id;
  uint32_t version = 0;
  uint32_t chunk = 0;
};

// All that hold a passage, since an answer cites them all.
std::string EncodePassages(const std::vector<Passage>& passages) {
  ByteWriter writer;
  const auto write = [&](const std::string& document_id, uint32_t version, uint32_t chunk) {
    writer.Text(document_id);
    writer.U32(version);
    writer.U32(chunk);
  };
  for (const Passage& passage : passages) {
    write(passage.document_id, passage.version, passage.chunk);
    for (const Passage::Copy& copy : passage.copies) {
      write(copy.document_id, copy.version, passage.chunk);
    }
  }
  return writer.Take();
}

std::vector<PassageId> DecodePassages(std::string_view bytes) {
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

std::string Moved(const std::string& what, uint64_t before, uint64_t now) {
  return what + " " + std::to_string(before) + " -> " + std::to_string(now);
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

// What of the question is not for everybody; empty where all of it is.
std::string RightsOf(const Query& query, const Chosen& chosen, const Found& found) {
  RestsOn rests_on;
  for (const Passage& passage : found.passages) {
    if (!passage.access.empty()) rests_on.Add(RestOf({&passage, 1}));
  }
  for (const FewShot& shot : chosen.shots) {
    if (shot.rests_on.restricted()) rests_on.Add(shot.rests_on);
  }
  if (!query.filter && rests_on.documents.empty()) return {};
  ByteWriter writer;
  writer.Names(rests_on.documents);
  if (query.filter) WriteFilter(*query.filter, writer);
  return writer.Take();
}

// The question with the turns before it.
std::string BytesOf(const Query& query) {
  ByteWriter writer;
  for (const ChatMessage& message : query.messages) {
    writer.Text(message.role);
    writer.Text(message.text);
  }
  writer.Text(query.text);
  return writer.Take();
}

// The first thing that an answer rests on and that is not as it was; empty: all of it is.
std::string WhatChanged(const AnswerCache::Basis& then, const AnswerCache::Basis& today,
                        const AnswerCache::MayName& may_name) {
  if (then.adapter != today.adapter) return Moved("adapter", then.adapter, today.adapter);
  if (then.prompt_version != today.prompt_version) {
    return Moved("prompt " + today.prompt_id, then.prompt_version, today.prompt_version);
  }
  if (then.shots != today.shots) return "few-shots changed";
  if (then.passages == today.passages) return {};
  const std::vector<PassageId> earlier = DecodePassages(then.passages);
  const std::vector<PassageId> now = DecodePassages(today.passages);
  const auto find = [](const std::vector<PassageId>& passages, const std::string& document_id) {
    return std::find_if(passages.begin(), passages.end(), [&](const PassageId& passage) {
      return passage.document_id == document_id;
    });
  };
  for (const PassageId& before : earlier) {
    const auto still = find(now, before.document_id);
    if (still != now.end() && still->version != before.version) {
      return Moved("document " + before.document_id, before.version, still->version);
    }
  }
  for (const PassageId& before : earlier) {
    if (find(now, before.document_id) == now.end()) {
      if (!may_name(before.document_id)) return "other documents may be seen";
      return "document " + before.document_id + " no longer found";
    }
  }
  for (const PassageId& passage : now) {
    if (find(earlier, passage.document_id) == earlier.end()) {
      return "document " + passage.document_id + " newly found";
    }
  }
  return "other passages of the same documents";
}

}  // namespace

CacheKey AnswerCache::KeyOf(const Query& query, const Chosen& chosen, const Found& found,
                            const LearnerId& learner) {
  ByteWriter variant;
  variant.Text(chosen.prompt_id);
  WriteDecoding(variant, chosen.decoding);
  if (chosen.decoding.temperature > 0) variant.U64(*query.options.seed);
  // Keys of older builds were of folded texts without this word in front: none of them is met by
  // another question that folds to the same. They leave the cache unused.
  const std::string asked =
      query.messages.empty() ? "exact\n" + query.text : "conversation\n" + BytesOf(query);
  const std::string rights = RightsOf(query, chosen, found);
  const Sha256Digest question = !learner.empty()  ? Sha256Parts({"learner", learner, rights, asked})
                                : !rights.empty() ? Sha256Parts({"rights", rights, asked})
                                                  : Sha256(asked);
  CacheKey key{};
  for (size_t i = 0; i < 16; ++i) key[i / 8] |= uint64_t{question[i]} << (8 * (i % 8));
  key[2] = SeedOf({variant.Take()});
  return key;
}

AnswerCache::Basis AnswerCache::BasisOf(const Gathered& gathered, Version serving) {
  const Chosen& chosen = *gathered.chosen;
  return {EncodePassages(gathered.found->passages),
          chosen.prompt_id,
          chosen.prompt_version,
          chosen.decoding_name,
          chosen.decoding,
          HashOf(chosen.shots),
          serving};
}

std::string AnswerCache::WhyNot(const CacheKey& key, const Basis& today,
                                const MayName& may_name) const {
  if (const Entry* entry = entries_.Find(key)) {
    if (entry->rejected) return "the earlier answer got negative feedback";
    return WhatChanged(entry->basis, today, may_name);
  }
  const auto other = entries_.rows().lower_bound({key[0], key[1], 0});
  if (other == entries_.rows().end() || other->first[0] != key[0] || other->first[1] != key[1]) {
    return kFirstTimeAsked;
  }
  const Basis& then = other->second.value.basis;
  if (then.prompt_id != today.prompt_id) {
    return "prompt " + then.prompt_id + " -> " + today.prompt_id;
  }
  if (then.decoding_name != today.decoding_name) {
    return "decoding " + then.decoding_name + " -> " + today.decoding_name;
  }
  return then.decoding != today.decoding ? "decoding options changed" : "another seed";
}

AnswerCache::Hit AnswerCache::Use(const CacheKey& key, Sequence at) {
  Entry& entry = *entries_.Change(key);
  by_last_use_.erase(entry.used);
  entry.used = at.value;
  by_last_use_[at.value] = key;
  return {entry.answer, entry.passages_shown};
}

void AnswerCache::Put(const CacheKey& key, Basis basis, Hit answer, size_t most,
                      ShownAnswers& shown, std::vector<Sequence>& retired) {
  Erase(key, shown, retired);
  shown.Hold(answer.answer);
  by_last_use_[answer.answer] = key;
  entries_.Put(key, {answer.answer, false, answer.answer, answer.passages_shown, std::move(basis)});
  if (entries_.size() > most) {
    const CacheKey oldest = by_last_use_.begin()->second;
    Erase(oldest, shown, retired);
  }
}

void AnswerCache::Erase(const CacheKey& key, ShownAnswers& shown, std::vector<Sequence>& retired) {
  const Entry* entry = entries_.Find(key);
  if (entry == nullptr) return;
  by_last_use_.erase(entry->used);
  if (!entry->rejected) shown.Release(entry->answer, retired);
  entries_.Erase(key);
}

bool AnswerCache::Reject(const CacheKey& key, AnswerId answer, ShownAnswers& shown,
                         std::vector<Sequence>& retired) {
  const Entry* entry = entries_.Find(key);
  if (entry == nullptr || entry->rejected || entry->answer != answer) return false;
  entries_.Change(key)->rejected = true;
  shown.Release(answer, retired);
  return true;
}

size_t AnswerCache::Purge(const std::set<AnswerId>& answers, const std::vector<Version>& versions,
                          ShownAnswers& shown, std::vector<Sequence>& retired) {
  std::vector<CacheKey> gone;
  for (const auto& [key, row] : entries_.rows()) {
    const Version by = row.value.basis.adapter;
    const bool theirs = std::find(versions.begin(), versions.end(), by) != versions.end();
    if (theirs || answers.contains(row.value.answer)) gone.push_back(key);
  }
  for (const CacheKey& key : gone) Erase(key, shown, retired);
  return gone.size();
}

void AnswerCache::Save(const std::string& tenant, Changes& changes) {
  const auto encode = [](const Entry& entry) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U64(entry.answer);
    writer.U8(entry.rejected);
    writer.U64(entry.used);
    writer.U32(entry.passages_shown);
    writer.Text(entry.basis.passages);
    writer.Text(entry.basis.prompt_id);
    writer.U32(entry.basis.prompt_version);
    writer.Text(entry.basis.decoding_name);
    WriteDecoding(writer, entry.basis.decoding);
    writer.U64(entry.basis.shots);
    writer.U32(entry.basis.adapter);
    return writer.Take();
  };
  entries_.Save(tenant, kKind, encode, changes);
}

Result<Nothing> AnswerCache::Load(const Change& entry, ShownAnswers& shown) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const auto key = NumbersOfRow<3>(entry.id);
  if (reader.U8() != kFormat || !key) return UnreadableEntry(entry);
  Entry loaded;
  loaded.answer = reader.U64();
  loaded.rejected = reader.U8() != 0;
  loaded.used = reader.U64();
  loaded.passages_shown = reader.U32();
  loaded.basis.passages = reader.Text();
  loaded.basis.prompt_id = reader.Text();
  loaded.basis.prompt_version = reader.U32();
  loaded.basis.decoding_name = reader.Text();
  loaded.basis.decoding = ReadDecoding(reader);
  loaded.basis.shots = reader.U64();
  loaded.basis.adapter = reader.U32();
  if (!reader.complete()) return UnreadableEntry(entry);
  if (!loaded.rejected) shown.Hold(loaded.answer);
  by_last_use_[loaded.used] = *key;
  entries_.Restore(*key, std::move(loaded));
  return Nothing{};
}

}  // namespace nudge
