// What the index is put together from: stored documents, the places of their chunks, ranked lists.
//
// Private to index.cpp; its thread alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "stages/access.h"
#include "stages/metadata.h"

namespace nudge::index_parts {

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
  Metadata metadata;
  std::optional<Groups> access;  // unset: everybody
  std::vector<StoredChunk> chunks;
  std::optional<uint64_t> ended_at;  // a tombstone since this event
  bool changed = false;              // since the last Save
};

// A chunk by its document.
struct Owner {
  const Document* document = nullptr;
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

// What one question sees of a tenant's places where it does not see all of them.
struct Sight {
  std::vector<uint8_t> slots;  // by slot: whether any owner is seen
  std::vector<Owner> first;    // by slot: the smallest of these
};

// Descending scores, ties in the order of first owners. `sight` null: all are seen.
class Better {
 public:
  Better(const std::vector<Place>& places, const Sight* sight) : places_(places), sight_(sight) {}
  bool operator()(const Ranked& x, const Ranked& y) const {
    if (x.score != y.score) return x.score > y.score;
    return FirstOf(x.slot) < FirstOf(y.slot);
  }

 private:
  const Owner& FirstOf(uint32_t slot) const {
    return sight_ != nullptr ? sight_->first[slot] : places_[slot].owners.front();
  }

  const std::vector<Place>& places_;
  const Sight* sight_;
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

}  // namespace nudge::index_parts
