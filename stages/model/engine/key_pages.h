// Keys and values of what was read, in pages of kPageTokens tokens of all layers:
// KeyPages (memory within a bound) <- KeySequence (the pages of one text).
//
// A page is counted by those who hold it: sequences that begin alike share their first pages, and
// only whole pages are shared, so that nobody writes into a page that another one reads. A page
// that nobody holds is used again.
//
// Pool and sequences are used by one thread at a time; the parts of a pass read and write the pages
// of its sequences meanwhile, each its own part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stages/model/trainer/frozen_weights.h"
#include "stages/model/trainer/gemm.h"
#include "stages/result.h"

namespace nudge {

inline constexpr size_t kPageTokens = 32;
using PageId = uint32_t;

class KeyPages {
 public:
  // As many pages as bytes_max has room for; none is allocated before it is needed.
  KeyPages(const LlamaShape& shape, size_t bytes_max);
  KeyPages(const KeyPages&) = delete;
  KeyPages& operator=(const KeyPages&) = delete;

  static size_t PageBytes(const LlamaShape& shape);

  // A page that the caller holds, its contents those of its last use. kBusy: all are held.
  Result<PageId> Take();
  void Hold(PageId page) { ++holders_[page]; }
  void Drop(PageId page);

  // Of one key head: keys [head_dim, kPageTokens], and values [kPageTokens, width] for each panel
  // of at most kPanelColumns of head_dim, one after the other. Both as products read them.
  float* Keys(PageId page, size_t layer, size_t head) {
    return slabs_[page / slab_pages_].get() + page % slab_pages_ * page_floats_ +
           (layer * kv_heads_ + head) * head_floats_;
  }
  float* Values(PageId page, size_t layer, size_t head) {
    return Keys(page, layer, head) + head_dim_ * kPageTokens;
  }

  size_t pages_max() const { return pages_max_; }
  size_t held() const { return holders_.size() - free_.size(); }
  size_t free() const { return pages_max_ - held(); }
  size_t page_bytes() const { return page_floats_ * sizeof(float); }

 private:
  size_t kv_heads_, head_dim_;
  size_t head_floats_;  // keys and values of one head
  size_t page_floats_;
  size_t pages_max_;
  size_t slab_pages_;  // of one allocation
  std::vector<AlignedFloats> slabs_;
  std::vector<uint32_t> holders_;
  std::vector<PageId> free_;
};

// One text's pages. Drops them at its end; the pool outlives it.
class KeySequence {
 public:
  explicit KeySequence(KeyPages& pool) : pool_(&pool) {}
  ~KeySequence() { Clear(); }
  KeySequence(KeySequence&& other) noexcept;
  KeySequence& operator=(KeySequence&& other) noexcept;

  size_t length() const { return length_; }  // tokens that are read
  std::span<const PageId> pages() const { return pages_; }
  KeyPages& pool() const { return *pool_; }

  // Begins with pages that others have read: all of their tokens. Requires length() 0
  // and no room.
  void Share(std::span<const PageId> pages);

  // Room for so many tokens behind length(). kBusy: nothing changed.
  Result<Nothing> Reserve(size_t tokens);
  // The next `tokens` are written. Requires room for them.
  void Advance(size_t tokens);
  // Gives back the pages that no token has reached.
  void Trim();
  void Clear();

 private:
  void KeepPages(size_t count);

  KeyPages* pool_;
  std::vector<PageId> pages_;
  size_t length_ = 0;
};

}  // namespace nudge
