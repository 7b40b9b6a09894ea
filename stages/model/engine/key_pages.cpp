#include "stages/model/engine/key_pages.h"

#include <algorithm>
#include <string>
#include <utility>

#include "stages/model/engine/products.h"

namespace nudge {

namespace {

constexpr size_t kSlabBytes = size_t{16} << 20;

// Of a head's value rows, panel after panel.
size_t ValueWidth(size_t head_dim) {
  return (head_dim + kColumnStep - 1) / kColumnStep * kColumnStep;
}

size_t HeadFloats(const LlamaShape& shape) {
  return kPageTokens * (shape.head_dim + ValueWidth(shape.head_dim));
}

size_t PagesFor(size_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace

KeyPages::KeyPages(const LlamaShape& shape, size_t bytes_max)
    : kv_heads_(shape.kv_heads),
      head_dim_(shape.head_dim),
      head_floats_(HeadFloats(shape)),
      page_floats_(shape.layers * shape.kv_heads * head_floats_),
      pages_max_(bytes_max / PageBytes(shape)),
      slab_pages_(std::max<size_t>(kSlabBytes / PageBytes(shape), 1)) {}

size_t KeyPages::PageBytes(const LlamaShape& shape) {
  return shape.layers * shape.kv_heads * HeadFloats(shape) * sizeof(float);
}

Result<PageId> KeyPages::Take() {
  if (free_.empty()) {
    if (holders_.size() == pages_max_) {
      return Error{Code::kBusy,
                   "all " + std::to_string(pages_max_) + " pages of keys and values are in use",
                   "ask again when an answer has ended"};
    }
    const size_t page = holders_.size();
    if (page / slab_pages_ == slabs_.size()) {
      slabs_.push_back(AllocateStreamedFloats(slab_pages_ * page_floats_));
    }
    // A product reads whole pages of keys, and what it makes of those to come is overwritten.
    std::fill_n(slabs_.back().get() + page % slab_pages_ * page_floats_, page_floats_, 0.0f);
    holders_.push_back(0);
    free_.push_back(static_cast<PageId>(page));
  }
  const PageId page = free_.back();
  free_.pop_back();
  holders_[page] = 1;
  return page;
}

void KeyPages::Drop(PageId page) {
  ENSURE(holders_[page] > 0);
  if (--holders_[page] == 0) free_.push_back(page);
}

KeySequence::KeySequence(KeySequence&& other) noexcept
    : pool_(other.pool_),
      pages_(std::exchange(other.pages_, {})),
      length_(std::exchange(other.length_, 0)) {}

KeySequence& KeySequence::operator=(KeySequence&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(pages_, other.pages_);
  std::swap(length_, other.length_);
  return *this;
}

void KeySequence::Share(std::span<const PageId> pages) {
  ENSURE(length_ == 0 && pages_.empty());
  for (const PageId page : pages) pool_->Hold(page);
  pages_.assign(pages.begin(), pages.end());
  length_ = pages.size() * kPageTokens;
}

Result<Nothing> KeySequence::Reserve(size_t tokens) {
  const size_t before = pages_.size();
  while (pages_.size() < PagesFor(length_ + tokens)) {
    auto page = pool_->Take();
    if (!page) {
      KeepPages(before);
      return page.error();
    }
    pages_.push_back(*page);
  }
  return Nothing{};
}

void KeySequence::Advance(size_t tokens) {
  ENSURE(PagesFor(length_ + tokens) <= pages_.size());
  length_ += tokens;
}

void KeySequence::Trim() {
  KeepPages(PagesFor(length_));
}

void KeySequence::Clear() {
  KeepPages(0);
  length_ = 0;
}

void KeySequence::KeepPages(size_t count) {
  for (; pages_.size() > count; pages_.pop_back()) pool_->Drop(pages_.back());
}

}  // namespace nudge
