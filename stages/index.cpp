#include "stages/index.h"

#include <algorithm>
#include <functional>
#include <new>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stages/dense_scan.h"
#include "stages/follow_up.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kDocumentFormat = 2;  // 1 is the same without the owner
constexpr size_t kCopiesNamed = 15;     // of a passage, beside its first owner

// Vectors start at a cache line: scanning those that do not costs 1.6 times as much.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};

  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}  // NOLINT

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
  }
  void deallocate(T* data, size_t) { ::operator delete(data, kAlignment); }
  friend bool operator==(const CacheLineAllocator&, const CacheLineAllocator&) { return true; }
};

using Rows = std::vector<float, CacheLineAllocator<float>>;

struct StoredChunk {
  std::string text;
  uint32_t slot = 0;  // in the lexical index
};

struct Document {
  const std::string* id = nullptr;  // the key in Tenant::documents_
  uint32_t version = 0;
  std::string title;
  std::string owner;  // the user of the upsert; may be empty
  std::vector<StoredChunk> chunks;
  std::optional<uint64_t> ended_at;  // a tombstone since this event
  bool changed = false;              // since the last Save
};

// A chunk by its document.
struct Owner {
  Document* document = nullptr;
  uint32_t chunk = 0;

  friend bool operator<(const Owner& x, const Owner& y) {
    if (x.document != y.document) return *x.document->id < *y.document->id;
    return x.chunk < y.chunk;
  }
};

// What lies in a slot: one passage, of all chunks that are it, the smallest first.
struct Place {
  std::vector<Owner> owners;
  uint32_t row = 0;  // in the dense rows, if there are any
};

struct Ranked {
  double score = 0;
  uint32_t slot = 0;
};

// Descending scores, ties in the order of first owners.
class Better {
 public:
  explicit Better(const std::vector<Place>& places) : places_(places) {}
  bool operator()(const Ranked& x, const Ranked& y) const {
    if (x.score != y.score) return x.score > y.score;
    return places_[x.slot].owners.front() < places_[y.slot].owners.front();
  }

 private:
  const std::vector<Place>& places_;
};

// Keeps the best `limit` of all that is offered, in no order.
class BestOf {
 public:
  BestOf(size_t limit, Better better, std::vector<Ranked>& kept)
      : limit_(limit), better_(better), kept_(kept) {
    kept_.clear();
  }

  void Offer(double score, uint32_t slot) {
    if (full_ && score < worst_) return;
    kept_.push_back({score, slot});
    if (kept_.size() >= 2 * limit_) Cut();
  }

  void Finish() {
    if (kept_.size() > limit_) Cut();
  }

 private:
  void Cut() {
    const auto last = kept_.begin() + static_cast<ptrdiff_t>(limit_ - 1);
    std::nth_element(kept_.begin(), last, kept_.end(), better_);
    kept_.resize(limit_);
    worst_ = kept_.back().score;
    full_ = true;
  }

  size_t limit_;
  Better better_;
  std::vector<Ranked>& kept_;
  bool full_ = false;
  double worst_ = 0;
};

// Min-max scaling by the scores of a list; 0 below its worst.
class Scale {
 public:
  Scale() = default;
  explicit Scale(const std::vector<Ranked>& list) {
    if (list.empty()) return;
    const auto [least, most] =
        std::minmax_element(list.begin(), list.end(),
                            [](const Ranked& x, const Ranked& y) { return x.score < y.score; });
    least_ = least->score;
    most_ = most->score;
    empty_ = false;
  }
  void StartAt(double least) { least_ = least; }

  double operator()(double score) const {
    if (empty_ || score < least_) return 0;
    return most_ > least_ ? (score - least_) / (most_ - least_) : 1;
  }

 private:
  bool empty_ = true;
  double least_ = 0;
  double most_ = 0;
};

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
  Found Search(const std::string& text, const Vector& query, Scratch& scratch) const;

  void Save(const TenantId& tenant, Changes& changes);
  Result<Nothing> LoadDocument(const Change& entry);
  Result<Nothing> LoadMeta(const Change& entry);
  IndexSize Size() const;

  bool changed = false;  // is in the partition's list of changed tenants

 private:
  Document& DocumentOf(const std::string& id);
  void Note(Document& document);
  void AddChunks(Document& document, const std::vector<Chunk>& chunks);
  void RemoveChunks(Document& document);
  void RemoveRow(uint32_t row);
  size_t HashOf(const std::string& title, const std::string& text) const;
  std::optional<uint32_t> FindCopy(size_t hash, const std::string& title, const Chunk& chunk) const;
  void ForgetOldTombstones();
  std::string Encoded(const Document& document) const;
  Passage PassageOf(const Ranked& ranked, const Scratch& scratch, bool with_dense) const;

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
  uint32_t forgotten_version_ = 0;  // the highest whose tombstone was forgotten

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

Found Index::Tenant::Search(const std::string& text, const Vector& query, Scratch& scratch) const {
  const Better better(places_);
  ENSURE(query.empty() || query.size() == options_.dimension);
  const double weight = query.empty() ? 0 : options_.dense_weight;
  const bool with_dense = weight > 0 && !row_slots_.empty();
  if (with_dense) {
    scratch.products.resize(row_slots_.size());
    DotProducts(query.data(), rows_.data(), row_slots_.size(), options_.dimension,
                scratch.products.data());
    BestOf best(options_.candidates, better, scratch.dense_list);
    for (size_t row = 0; row < row_slots_.size(); ++row) {
      best.Offer(scratch.products[row], row_slots_[row]);
    }
    best.Finish();
  } else {
    scratch.dense_list.clear();
  }
  lexical_.Search(LexicalTerms(text), scratch.lexical);
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
    found.passages.push_back(PassageOf(fused[i], scratch, with_dense));
  }
  return found;
}

Passage Index::Tenant::PassageOf(const Ranked& ranked, const Scratch& scratch,
                                 bool with_dense) const {
  const Place& place = places_[ranked.slot];
  const Owner& owner = place.owners.front();
  const StoredChunk& chunk = owner.document->chunks[owner.chunk];
  Passage passage;
  passage.document_id = *owner.document->id;
  passage.version = owner.document->version;
  passage.owner = owner.document->owner;
  passage.chunk = owner.chunk;
  passage.title = owner.document->title;
  passage.text = chunk.text;
  passage.score = ranked.score;
  passage.dense = with_dense ? scratch.products[place.row] : 0;
  passage.lexical = scratch.lexical.of_slot[ranked.slot];
  const size_t named = std::min(place.owners.size(), kCopiesNamed + 1);
  for (size_t i = 1; i < named; ++i) {
    const Document& copy = *place.owners[i].document;
    passage.copies.push_back({*copy.id, copy.version, copy.owner});
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
    if (format != kFormat && format != kDocumentFormat) return Unreadable(entry, "unknown format");
    loaded.version = reader.U32();
    if (reader.U8() == 0) {
      loaded.ended_at = reader.U64();
    } else {
      loaded.title = reader.Text();
      if (format == kDocumentFormat) loaded.owner = reader.Text();
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
  if (!entry.value) {
    documents_.erase(documents_.find(entry.id));
    return Nothing{};
  }
  document.version = loaded.version;
  document.title = std::move(loaded.title);
  document.owner = std::move(loaded.owner);
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
    return tenant->Search(SearchTextOf(*query), prepared.query_vector, *scratch_);
  }
  if (const auto* upsert = std::get_if<DocumentUpsert>(&event.data)) {
    Tenant& tenant = FindOrMake(at.partition(), event.tenant);
    NoteChange(at.partition(), event.tenant, tenant);
    return tenant.Upsert(*upsert, event.user, prepared.chunks);
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
