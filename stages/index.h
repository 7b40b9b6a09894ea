// Knows each tenant's documents and finds passages in them: Resolved -> [Index] -> Found.
//
// Stateful and serial: one event at a time, in log order per partition, by the thread that runs its
// node. What an event writes, the next one reads. Results are a function of a tenant's documents
// alone: not of the order in which they came, of what was deleted, of Save and Load, or of storage.
//
// A tenant's chunks lie flat: every query scans all vectors exactly. When tenants outgrow that,
// immutable segments (a graph over vectors that no longer change, with a list of the deleted) go
// beside the flat part inside a tenant, which then is the tail of what came last: a search asks
// both for their `candidates` and fuses as now; Save hands a sealed segment over once, under a kind
// of its own. Nothing of this interface changes by it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "stages/events.h"
#include "stages/index_options.h"
#include "stages/lexical.h"
#include "stages/result.h"
#include "stages/state.h"

namespace nudge {

// What one tenant occupies.
struct IndexSize {
  uint64_t documents = 0;
  uint64_t chunks = 0;
  uint64_t tombstones = 0;
  uint64_t terms = 0;
  uint64_t vector_bytes = 0;
};

class Index {
 public:
  // Throws StartError for options out of range.
  explicit Index(const IndexOptions& options);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // - upsert: the document's chunks replace those of its older version. Versions count 1, 2, ...
  //   per document_id and go on after a delete. Of more than `tombstones_per_tenant` deleted
  //   documents the one deleted first is forgotten; then documents that are new (to the index)
  //   count from above the highest version ever forgotten, so that no version means two texts.
  // - delete, and forget of a document_id: the document goes, a tombstone keeps its version. Of an
  //   unknown one: nothing. Forget of a user with `documents`: all that this user's upserts made.
  //   Sync of a source: what recall says that it removes.
  // - query: the best `passages` chunks by
  //     weight * scaled(cosine) + (1 - weight) * scaled(BM25),   weight 0 without a query vector,
  //   where scaled is 0 at and below the worst of the list's best `candidates` (of BM25, if fewer
  //   chunks match: at 0), 1 at the best, and linear between. Ties go to the smaller document_id
  //   (by bytes), then the smaller chunk. Chunks that are the same to a reader (title, text and
  //   vector) are one passage: they count once in all of this, take one place, which is that of
  //   the first of them, and name up to 15 further ones as its copies.
  //   Documents that the asker's groups do not let see (access.h) or that do not match the filter
  //   (filter.h) are as if they were not there, to scores, counts, ties and copies alike. Without
  //   access lists and filter that costs nothing, else a walk over the tenant's chunks.
  // - all other events, and duplicates: nothing.
  // No error: what can be refused was refused before. Ends the process (ENSURE) where that was not
  // so: a limit passed, chunks without a vector or with one of another dimension.
  Result<Found> Apply(Sequence at, const Resolved& resolved);

  // See stages/state.h. Kinds "document" (id: the document_id) and "index_meta" (id: empty).
  void Save(int32_t partition, Changes& changes);
  // Errors, and nothing changed: kUnreadableFile for an entry that is not as Save wrote it,
  // kUnsupportedModel for one whose vectors come from another embedder than the configured one.
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

  // All 0 for a tenant without documents.
  IndexSize SizeOf(int32_t partition, const TenantId& tenant) const;

 private:
  class Tenant;
  struct Partition;
  struct Scratch;

  Tenant* Find(int32_t partition, const TenantId& tenant) const;
  Tenant& FindOrMake(int32_t partition, const TenantId& tenant);
  void NoteChange(int32_t partition, const TenantId& id, Tenant& tenant);

  IndexOptions options_;
  std::map<int32_t, Partition> partitions_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace nudge
