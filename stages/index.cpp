#include "stages/index.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stages/dense_scan.h"
#include "stages/follow_up.h"
#include "stages/index_parts.h"
#include "stages/metadata_codec.h"

namespace nudge {

using namespace index_parts;

namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kOwnedFormat = 2;  // without metadata and access; 1 is without the owner, too
constexpr uint8_t kDocumentFormat = 3;
constexpr size_t kCopiesNamed = 15;  // of a passage, beside its first owner

Error Unreadable(const Change& entry, const std::string& what) {
  return {Code::kUnreadableFile,
          "state of tenant " + entry.tenant + ", " + entry.kind + " \"" + entry.id + "\": " + what,
          "restore the state from a backup, or replay the log into an empty one"};
}

Error OtherEmbedder(const Change& entry, const std::string& found, const std::string& wanted) {
  return {Code::kUnsupportedModel,
          "state of tenant " + entry.tenant + ": its vectors are of " + found +
              ", the configuration has " + wanted,
          "configure the former embedder, or re-embed: replay the log into an empty state"};
}

std::string Described(const std::string& embedder, uint64_t dimension) {
  if (dimension == 0) return "no embedder";
  return "embedder \"" + embedder + "\" with dimension " + std::to_string(dimension);
}

}  // namespace

// Memory that a search needs and leaves behind; shared by all tenants, since one searches at a
// time.
struct Index::Scratch {
  LexicalScores lexical;
  std::vector<float> products;
  std::vector<Ranked> dense_list;
  std::vector<Ranked> lexical_list;
  std::vector<Ranked> fused;
  std::vector<uint8_t> listed;  // by slot; all 0 between searches
  Sight sight;
};

// The documents of one tenant. The flat part that the header speaks of is rows_, lexical_ and
// places_; segments would stand here.
class Index::Tenant {
 public:
  explicit Tenant(const IndexOptions& options)
      : options_(options), lexical_({options.bm25_k1, options.bm25_b}) {}
  Tenant(const Tenant&) = delete;
  Tenant& operator=(const Tenant&) = delete;

  Found Upsert(const DocumentUpsert& upsert, const std::string& owner,
               const std::vector<Chunk>& chunks);
  Found Delete(const std::string& document_id, Sequence at);
  Found DeleteAllOf(const std::string& owner, Sequence at);
  Found Search(const Query& query, const Vector& vector, Scratch& scratch) const;

  void Save(const TenantId& tenant, Changes& changes);
  Result<Nothing> LoadDocument(const Change& entry);
  Result<Nothing> LoadMeta(const Change& entry);
  IndexSize Size() const;

  bool changed = false;  // is in the partition's list of changed tenants

 private:
  Document& DocumentOf(const std::string& id);
  void Note(Document& document);
  void SetAccess(Document& document, const std::optional<Groups>& access);
  void AddChunks(Document& document, const std::vector<Chunk>& chunks);
  void RemoveChunks(Document& document);
  void RemoveRow(uint32_t row);
  size_t HashOf(const std::string& title, const std::string& text) const;
  std::optional<uint32_t> FindCopy(size_t hash, const std::string& title, const Chunk& chunk) const;
  void ForgetOldTombstones();
  std::string Encoded(const Document& document) const;
  static bool Sees(const Query& query, const Document& document);
  const Sight* SightOf(const Query& query, Scratch& scratch) const;
  Passage PassageOf(const Query& query, const Ranked& ranked, const Scratch& scratch,
                    bool with_dense) const;

  const IndexOptions& options_;
  std::unordered_map<std::string, Document> documents_;    // looked up; walked only behind a sort
  std::set<std::pair<uint64_t, std::string>> tombstones_;  // the event that made them, document_id
  LexicalIndex lexical_;
  std::vector<Place> places_;                                // by slot
  std::unordered_multimap<size_t, uint32_t> slots_by_hash_;  // looked up, never walked
  size_t chunks_ = 0;                                        // of all documents, copies too
  Rows rows_;                        // [chunks][dimension], dense: the last fills a gap
  std::vector<uint32_t> row_slots_;  // by row
  uint64_t live_documents_ = 0;
  uint64_t restricted_documents_ = 0;  // live ones with an access list
  uint32_t forgotten_version_ = 0;     // the highest whose tombstone was forgotten

  std::vector<std::string> changed_documents_;  // since the last Save
  bool meta_changed_ = true;
};

struct Index::Partition {
  std::unordered_map<TenantId, std::unique_ptr<Tenant>> tenants;  // looked up, never walked
  std::vector<TenantId> changed;                                  // since the last Save
};

Document& Index::Tenant::DocumentOf(const std::string& id) {
  const auto [at, is_new] = documents_.try_emplace(id);
  if (is_new) at->second.id = &at->first;
  return at->second;
}

void Index::Tenant::Note(Document& document) {
  if (document.changed) return;
  document.changed = true;
  changed_documents_.push_back(*document.id);
}

void Index::Tenant::SetAccess(Document& document, const std::optional<Groups>& access) {
  restricted_documents_ -= document.access ? 1 : 0;
  document.access = access;
  restricted_documents_ += document.access ? 1 : 0;
}

Found Index::Tenant::Upsert(const DocumentUpsert& upsert, const std::string& owner,
                            const std::vector<Chunk>& chunks) {
  Document& document = DocumentOf(upsert.document_id);
  const bool was_live = document.version > 0 && !document.ended_at;
  const size_t chunks_before = chunks_;
  Found found;
  found.chunks_removed = static_cast<uint32_t>(document.chunks.size());
  found.chunks_added = static_cast<uint32_t>(chunks.size());
  if (document.ended_at) tombstones_.erase({*document.ended_at, upsert.document_id});
  document.ended_at.reset();
  RemoveChunks(document);
  document.version = (document.version > 0 ? document.version : forgotten_version_) + 1;
  document.title = upsert.title;
  document.owner = owner;
  document.metadata = upsert.metadata;
  SetAccess(document, upsert.access);
  AddChunks(document, chunks);
  if (!was_live) ++live_documents_;
  ENSURE(was_live || live_documents_ <= options_.documents_per_tenant);
  ENSURE(chunks_ <= std::max<size_t>(chunks_before, options_.chunks_per_tenant));
  Note(document);
  found.document_version = document.version;
  return found;
}

Found Index::Tenant::Delete(const std::string& document_id, Sequence at) {
  Found found;
  const auto position = documents_.find(document_id);
  if (position == documents_.end() || position->second.ended_at) return found;
  Document& document = position->second;
  found.chunks_removed = static_cast<uint32_t>(document.chunks.size());
  found.document_version = document.version;
  RemoveChunks(document);
  document.title = {};
  document.owner = {};
  document.metadata = {};
  SetAccess(document, std::nullopt);
  document.ended_at = at.value;
  tombstones_.emplace(at.value, document_id);
  --live_documents_;
  Note(document);
  ForgetOldTombstones();
  return found;
}

Found Index::Tenant::DeleteAllOf(const std::string& owner, Sequence at) {
  std::set<std::string> theirs;
  for (const auto& [id, document] : documents_) {
    if (!document.ended_at && document.owner == owner) theirs.insert(id);
  }
  Found found;
  for (const std::string& id : theirs) found.chunks_removed += Delete(id, at).chunks_removed;
  return found;
}

void Index::Tenant::ForgetOldTombstones() {
  while (tombstones_.size() > options_.tombstones_per_tenant) {
    const auto oldest = documents_.find(tombstones_.begin()->second);
    Note(oldest->second);
    if (oldest->second.version > forgotten_version_) {
      forgotten_version_ = oldest->second.version;
      meta_changed_ = true;
    }
    documents_.erase(oldest);
    tombstones_.erase(tombstones_.begin());
  }
}

size_t Index::Tenant::HashOf(const std::string& title, const std::string& text) const {
  const std::hash<std::string> hash;
  return hash(text) ^ (hash(title) << 1U);
}

// The slot of the passage that this chunk is once more: equal in title, text and vector.
std::optional<uint32_t> Index::Tenant::FindCopy(size_t hash, const std::string& title,
                                                const Chunk& chunk) const {
  const auto [begin, end] = slots_by_hash_.equal_range(hash);
  for (auto at = begin; at != end; ++at) {
    const Place& place = places_[at->second];
    const Owner& first = place.owners.front();
    const float* row = rows_.data() + size_t{place.row} * options_.dimension;
    if (first.document->title == title && first.document->chunks[first.chunk].text == chunk.text &&
        std::equal(chunk.vector.begin(), chunk.vector.end(), row)) {
      return at->second;
    }
  }
  return std::nullopt;
}

void Index::Tenant::AddChunks(Document& document, const std::vector<Chunk>& chunks) {
  const std::vector<std::string> title_terms = LexicalTerms(document.title);
  document.chunks.reserve(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    ENSURE(chunks[i].vector.size() == options_.dimension);
    const Owner owner{&document, static_cast<uint32_t>(i)};
    const size_t hash = HashOf(document.title, chunks[i].text);
    ++chunks_;
    if (const std::optional<uint32_t> copy = FindCopy(hash, document.title, chunks[i])) {
      std::vector<Owner>& owners = places_[*copy].owners;
      owners.insert(std::upper_bound(owners.begin(), owners.end(), owner), owner);
      document.chunks.push_back({chunks[i].text, *copy});
      continue;
    }
    std::vector<std::string> terms = LexicalTerms(chunks[i].text);
    terms.insert(terms.end(), title_terms.begin(), title_terms.end());
    const uint32_t slot = lexical_.Add(terms);
    if (slot == places_.size()) places_.emplace_back();
    places_[slot] = {{owner}, static_cast<uint32_t>(row_slots_.size())};
    slots_by_hash_.emplace(hash, slot);
    if (options_.dimension > 0) {
      rows_.insert(rows_.end(), chunks[i].vector.begin(), chunks[i].vector.end());
      row_slots_.push_back(slot);
    }
    document.chunks.push_back({chunks[i].text, slot});
  }
}

// Requires the title that the chunks were added with.
void Index::Tenant::RemoveChunks(Document& document) {
  chunks_ -= document.chunks.size();
  for (size_t i = 0; i < document.chunks.size(); ++i) {
    const StoredChunk& chunk = document.chunks[i];
    Place& place = places_[chunk.slot];
    const Owner owner{&document, static_cast<uint32_t>(i)};
    place.owners.erase(std::lower_bound(place.owners.begin(), place.owners.end(), owner));
    if (!place.owners.empty()) continue;
    lexical_.Remove(chunk.slot);
    if (options_.dimension > 0) RemoveRow(place.row);
    const auto [begin, end] = slots_by_hash_.equal_range(HashOf(document.title, chunk.text));
    slots_by_hash_.erase(
        std::find_if(begin, end, [&](const auto& entry) { return entry.second == chunk.slot; }));
    place = {};
  }
  document.chunks = {};
}

void Index::Tenant::RemoveRow(uint32_t row) {
  const size_t last = row_slots_.size() - 1;
  const size_t dimension = options_.dimension;
  if (row != last) {
    std::copy_n(rows_.data() + last * dimension, dimension, rows_.data() + row * dimension);
    row_slots_[row] = row_slots_[last];
    places_[row_slots_[row]].row = row;
  }
  rows_.resize(last * dimension);
  row_slots_.pop_back();
}

bool Index::Tenant::Sees(const Query& query, const Document& document) {
  return MaySee(document.access, query.groups) &&
         (!query.filter || Matches(*query.filter, document.metadata));
}

// Null: the question sees all. The order in which documents are walked does not show: a slot's
// first owner is the smallest.
const Sight* Index::Tenant::SightOf(const Query& query, Scratch& scratch) const {
  if (restricted_documents_ == 0 && !query.filter) return nullptr;
  Sight& sight = scratch.sight;
  sight.slots.assign(places_.size(), false);
  sight.first.assign(places_.size(), {});
  for (const auto& [id, stored] : documents_) {
    if (stored.ended_at || !Sees(query, stored)) continue;
    for (size_t i = 0; i < stored.chunks.size(); ++i) {
      const uint32_t slot = stored.chunks[i].slot;
      const Owner owner{&stored, static_cast<uint32_t>(i)};
      if (sight.slots[slot] == 0 || owner < sight.first[slot]) sight.first[slot] = owner;
      sight.slots[slot] = true;
    }
  }
  return &sight;
}

Found Index::Tenant::Search(const Query& query, const Vector& vector, Scratch& scratch) const {
  const Sight* const sight = SightOf(query, scratch);
  const Better better(places_, sight);
  ENSURE(vector.empty() || vector.size() == options_.dimension);
  const double weight = vector.empty() ? 0 : options_.dense_weight;
  const bool with_dense = weight > 0 && !row_slots_.empty();
  if (with_dense) {
    scratch.products.resize(row_slots_.size());
    DotProducts(vector.data(), rows_.data(), row_slots_.size(), options_.dimension,
                scratch.products.data());
    BestOf best(options_.candidates, better, scratch.dense_list);
    for (size_t row = 0; row < row_slots_.size(); ++row) {
      if (sight != nullptr && sight->slots[row_slots_[row]] == 0) continue;
      best.Offer(scratch.products[row], row_slots_[row]);
    }
    best.Finish();
  } else {
    scratch.dense_list.clear();
  }
  lexical_.Search(LexicalTerms(SearchTextOf(query)), scratch.lexical,
                  sight != nullptr ? &sight->slots : nullptr);
  BestOf best(options_.candidates, better, scratch.lexical_list);
  for (const uint32_t slot : scratch.lexical.slots) best.Offer(scratch.lexical.of_slot[slot], slot);
  best.Finish();

  const Scale dense_scale(scratch.dense_list);
  Scale lexical_scale(scratch.lexical_list);
  if (scratch.lexical_list.size() < options_.candidates) lexical_scale.StartAt(0);

  // Both lists together, each slot once; scratch's scores tell the two parts of every one.
  std::vector<Ranked>& fused = scratch.fused;
  fused.assign(scratch.lexical_list.begin(), scratch.lexical_list.end());
  if (with_dense) {
    scratch.listed.resize(std::max(scratch.listed.size(), places_.size()));
    for (const Ranked& ranked : scratch.lexical_list) scratch.listed[ranked.slot] = true;
    for (const Ranked& ranked : scratch.dense_list) {
      if (!scratch.listed[ranked.slot]) fused.push_back(ranked);
    }
    for (const Ranked& ranked : scratch.lexical_list) scratch.listed[ranked.slot] = false;
  }
  for (Ranked& ranked : fused) {
    const double lexical = lexical_scale(scratch.lexical.of_slot[ranked.slot]);
    ranked.score = (1 - weight) * lexical;
    if (with_dense) {
      ranked.score += weight * dense_scale(scratch.products[places_[ranked.slot].row]);
    }
  }
  const size_t count = std::min<size_t>(options_.passages, fused.size());
  std::partial_sort(fused.begin(), fused.begin() + static_cast<ptrdiff_t>(count), fused.end(),
                    better);
  Found found;
  found.passages.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    found.passages.push_back(PassageOf(query, fused[i], scratch, with_dense));
  }
  return found;
}

// The text is the same whoever of the owners is named; named are those that the question sees.
Passage Index::Tenant::PassageOf(const Query& query, const Ranked& ranked, const Scratch& scratch,
                                 bool with_dense) const {
  const Place& place = places_[ranked.slot];
  Passage passage;
  passage.score = ranked.score;
  passage.dense = with_dense ? scratch.products[place.row] : 0;
  passage.lexical = scratch.lexical.of_slot[ranked.slot];
  size_t named = 0;
  for (const Owner& owner : place.owners) {
    const Document& document = *owner.document;
    if (!Sees(query, document)) continue;
    if (document.access) passage.access.insert(*document.access);
    if (named++ > 0) {
      passage.copies.push_back({*document.id, document.version, document.owner});
      if (named > kCopiesNamed) break;
      continue;
    }
    passage.document_id = *document.id;
    passage.version = document.version;
    passage.owner = document.owner;
    passage.chunk = owner.chunk;
    passage.title = document.title;
    passage.text = document.chunks[owner.chunk].text;
  }
  return passage;
}

std::string Index::Tenant::Encoded(const Document& document) const {
  ByteWriter writer;
  writer.U8(kDocumentFormat);
  writer.U32(document.version);
  writer.U8(document.ended_at ? 0 : 1);
  if (document.ended_at) {
    writer.U64(*document.ended_at);
    return writer.Take();
  }
  writer.Text(document.title);
  writer.Text(document.owner);
  WriteMetadata(document.metadata, writer);
  writer.U8(document.access.has_value());
  writer.Names(document.access.value_or(Groups()));
  writer.U32(static_cast<uint32_t>(document.chunks.size()));
  for (const StoredChunk& chunk : document.chunks) {
    writer.Text(chunk.text);
    Vector vector(options_.dimension);
    std::copy_n(rows_.data() + size_t{places_[chunk.slot].row} * options_.dimension, vector.size(),
                vector.begin());
    writer.Floats(vector);
  }
  return writer.Take();
}

void Index::Tenant::Save(const TenantId& tenant, Changes& changes) {
  std::sort(changed_documents_.begin(), changed_documents_.end());
  const auto end = std::unique(changed_documents_.begin(), changed_documents_.end());
  changed_documents_.erase(end, changed_documents_.end());
  for (std::string& id : changed_documents_) {
    const auto at = documents_.find(id);
    std::optional<std::string> value;
    if (at != documents_.end()) {
      value = Encoded(at->second);
      at->second.changed = false;
    }
    changes.push_back({tenant, "document", std::move(id), std::move(value)});
  }
  changed_documents_.clear();
  if (!meta_changed_) return;
  ByteWriter writer;
  writer.U8(kFormat);
  writer.Text(options_.embedder);
  writer.U32(options_.dimension);
  writer.U32(forgotten_version_);
  changes.push_back({tenant, "index_meta", "", writer.Take()});
  meta_changed_ = false;
}

Result<Nothing> Index::Tenant::LoadDocument(const Change& entry) {
  Document loaded;
  std::vector<Chunk> chunks;
  if (entry.value) {
    ByteReader reader(*entry.value);
    const uint8_t format = reader.U8();
    if (format < kFormat || format > kDocumentFormat) return Unreadable(entry, "unknown format");
    loaded.version = reader.U32();
    if (reader.U8() == 0) {
      loaded.ended_at = reader.U64();
    } else {
      loaded.title = reader.Text();
      if (format >= kOwnedFormat) loaded.owner = reader.Text();
      if (format >= kDocumentFormat) {
        loaded.metadata = ReadMetadata(reader);
        const bool is_restricted = reader.U8() != 0;
        Groups access = reader.Names();
        if (is_restricted) loaded.access = std::move(access);
      }
      const uint32_t count = reader.U32();
      for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
        std::string text = reader.Text();
        chunks.push_back({std::move(text), reader.Floats()});
      }
    }
    if (!reader.complete() || loaded.version == 0) return Unreadable(entry, "damaged");
    for (const Chunk& chunk : chunks) {
      if (chunk.vector.size() == options_.dimension) continue;
      return OtherEmbedder(entry, "dimension " + std::to_string(chunk.vector.size()),
                           Described(options_.embedder, options_.dimension));
    }
  }
  Document& document = DocumentOf(entry.id);
  if (document.version > 0 && !document.ended_at) --live_documents_;
  if (document.ended_at) tombstones_.erase({*document.ended_at, entry.id});
  RemoveChunks(document);
  SetAccess(document, loaded.access);
  if (!entry.value) {
    documents_.erase(documents_.find(entry.id));
    return Nothing{};
  }
  document.version = loaded.version;
  document.title = std::move(loaded.title);
  document.owner = std::move(loaded.owner);
  document.metadata = std::move(loaded.metadata);
  document.ended_at = loaded.ended_at;
  if (document.ended_at) {
    tombstones_.emplace(*document.ended_at, entry.id);
  } else {
    ++live_documents_;
    AddChunks(document, chunks);
  }
  return Nothing{};
}

Result<Nothing> Index::Tenant::LoadMeta(const Change& entry) {
  if (!entry.value) return Unreadable(entry, "it is gone, which it cannot be");
  ByteReader reader(*entry.value);
  if (reader.U8() != kFormat) return Unreadable(entry, "unknown format");
  const std::string embedder = reader.Text();
  const uint32_t dimension = reader.U32();
  const uint32_t forgotten_version = reader.U32();
  if (!reader.complete()) return Unreadable(entry, "damaged");
  if (embedder != options_.embedder || dimension != options_.dimension) {
    return OtherEmbedder(entry, Described(embedder, dimension),
                         Described(options_.embedder, options_.dimension));
  }
  forgotten_version_ = forgotten_version;
  meta_changed_ = false;
  return Nothing{};
}

IndexSize Index::Tenant::Size() const {
  return {live_documents_, chunks_, tombstones_.size(), lexical_.terms(),
          rows_.size() * sizeof(float)};
}

Index::Index(const IndexOptions& options)
    : options_(options), scratch_(std::make_unique<Scratch>()) {
  const auto require = [](bool holds, const char* message) {
    if (!holds) throw StartError(std::string("index: ") + message);
  };
  require(options.embedder.empty() == (options.dimension == 0),
          "an embedder has an identity and a dimension, or neither");
  require(options.passages >= 1 && options.passages <= 64, "passages is outside 1..64");
  require(options.candidates >= options.passages && options.candidates <= 10000,
          "candidates is outside passages..10000");
  require(options.dense_weight >= 0 && options.dense_weight <= 1, "dense_weight is outside 0..1");
  require(options.bm25_k1 >= 0 && options.bm25_k1 <= 10, "bm25_k1 is outside 0..10");
  require(options.bm25_b >= 0 && options.bm25_b <= 1, "bm25_b is outside 0..1");
  require(options.documents_per_tenant > 0 && options.chunks_per_tenant > 0,
          "a limit of 0 lets no document in");
}

Index::~Index() = default;

Index::Tenant* Index::Find(int32_t partition, const TenantId& tenant) const {
  const auto at = partitions_.find(partition);
  if (at == partitions_.end()) return nullptr;
  const auto found = at->second.tenants.find(tenant);
  return found == at->second.tenants.end() ? nullptr : found->second.get();
}

Index::Tenant& Index::FindOrMake(int32_t partition, const TenantId& tenant) {
  std::unique_ptr<Tenant>& found = partitions_[partition].tenants[tenant];
  if (!found) found = std::make_unique<Tenant>(options_);
  return *found;
}

void Index::NoteChange(int32_t partition, const TenantId& id, Tenant& tenant) {
  if (tenant.changed) return;
  tenant.changed = true;
  partitions_[partition].changed.push_back(id);
}

Result<Found> Index::Apply(Sequence at, const Resolved& resolved) {
  if (resolved.duplicate_of) return Found{};
  const Prepared& prepared = *resolved.prepared;
  const Event& event = prepared.event;
  if (const auto* query = std::get_if<Query>(&event.data)) {
    const Tenant* tenant = Find(at.partition(), event.tenant);
    if (tenant == nullptr) return Found{};
    return tenant->Search(*query, prepared.query_vector, *scratch_);
  }
  if (const auto* upsert = std::get_if<DocumentUpsert>(&event.data)) {
    Tenant& tenant = FindOrMake(at.partition(), event.tenant);
    NoteChange(at.partition(), event.tenant, tenant);
    return tenant.Upsert(*upsert, event.user, prepared.chunks);
  }
  if (std::holds_alternative<SourceSync>(event.data)) {
    Found found;
    Tenant* tenant = resolved.removed.empty() ? nullptr : Find(at.partition(), event.tenant);
    if (tenant == nullptr) return found;
    NoteChange(at.partition(), event.tenant, *tenant);
    for (const std::string& id : resolved.removed) {
      found.chunks_removed += tenant->Delete(id, at).chunks_removed;
    }
    return found;
  }
  const auto* removal = std::get_if<DocumentDelete>(&event.data);
  const auto* forget = std::get_if<Forget>(&event.data);
  if (!removal && !forget) return Found{};
  Tenant* tenant = Find(at.partition(), event.tenant);
  if (!tenant || (forget && forget->document_id.empty() && !forget->documents)) return Found{};
  NoteChange(at.partition(), event.tenant, *tenant);
  if (forget && forget->documents) return tenant->DeleteAllOf(forget->user, at);
  return tenant->Delete(removal ? removal->document_id : forget->document_id, at);
}

void Index::Save(int32_t partition, Changes& changes) {
  const auto at = partitions_.find(partition);
  if (at == partitions_.end()) return;
  std::sort(at->second.changed.begin(), at->second.changed.end());
  for (const TenantId& id : at->second.changed) {
    Tenant& tenant = *at->second.tenants.at(id);
    tenant.Save(id, changes);
    tenant.changed = false;
  }
  at->second.changed.clear();
}

Result<Nothing> Index::Load(int32_t partition, const Change& entry) {
  const bool is_document = entry.kind == "document";
  if (!is_document && entry.kind != "index_meta") {
    return Unreadable(entry, "a kind that the index does not know");
  }
  Tenant* known = Find(partition, entry.tenant);
  auto fresh = known ? nullptr : std::make_unique<Tenant>(options_);
  Tenant& tenant = known ? *known : *fresh;
  Result<Nothing> loaded = is_document ? tenant.LoadDocument(entry) : tenant.LoadMeta(entry);
  if (loaded && fresh) partitions_[partition].tenants.emplace(entry.tenant, std::move(fresh));
  return loaded;
}

void Index::Drop(int32_t partition) {
  partitions_.erase(partition);
}

IndexSize Index::SizeOf(int32_t partition, const TenantId& tenant) const {
  const Tenant* found = Find(partition, tenant);
  return found ? found->Size() : IndexSize{};
}

}  // namespace nudge
