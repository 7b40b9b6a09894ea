#include "stages/model/engine/prefix_cache.h"

#include <algorithm>

namespace nudge {

PrefixCache::PrefixCache(KeyPages& pool, size_t bytes_max)
    : pool_(pool), pages_max_(bytes_max / pool.page_bytes()) {}

PrefixCache::~PrefixCache() {
  for (auto& [owner, root] : roots_) DropBelow(root);
}

PrefixCache::PageTokens PrefixCache::TokensOf(std::span<const int32_t> tokens, size_t page) {
  PageTokens of_page;
  std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(page * kPageTokens), kPageTokens,
              of_page.begin());
  return of_page;
}

void PrefixCache::Touch(Node& node) {
  const bool is_leaf = leaves_.erase(node.used) > 0;
  node.used = ++uses_;
  if (is_leaf) leaves_.emplace(node.used, &node);
}

std::vector<PageId> PrefixCache::Find(const PrefixOwner& owner, std::span<const int32_t> tokens) {
  std::vector<PageId> pages;
  const auto root = roots_.find(owner);
  if (root == roots_.end() || tokens.empty()) return pages;
  Node* node = &root->second;
  for (size_t page = 0; page < (tokens.size() - 1) / kPageTokens; ++page) {
    const auto next = node->next.find(TokensOf(tokens, page));
    if (next == node->next.end()) break;
    node = &next->second;
    Touch(*node);
    pages.push_back(node->page);
  }
  return pages;
}

void PrefixCache::Keep(const PrefixOwner& owner, std::span<const int32_t> tokens,
                       const KeySequence& sequence) {
  ENSURE(tokens.size() == sequence.length());
  const size_t pages = std::min(tokens.size() / kPageTokens, pages_max_);
  if (pages == 0) return;
  Node* node = &roots_[owner];
  for (size_t page = 0; page < pages; ++page) {
    const PageTokens key = TokensOf(tokens, page);
    if (const auto known = node->next.find(key); known != node->next.end()) {
      node = &known->second;
      Touch(*node);
      continue;
    }
    // The text's own pages so far were used last, and are fewer than there may be: others go.
    if (nodes_ == pages_max_) RemoveOldest();
    const auto [at, is_new] = node->next.try_emplace(key);
    leaves_.erase(node->used);
    Node& added = at->second;
    added.page = sequence.pages()[page];
    added.used = ++uses_;
    added.parent = node;
    added.tokens = &at->first;
    pool_.Hold(added.page);
    leaves_.emplace(added.used, &added);
    ++nodes_;
    node = &added;
  }
  DropEmptyRoots();
}

void PrefixCache::RemoveOldest() {
  Node& leaf = *leaves_.begin()->second;
  Node& parent = *leaf.parent;
  leaves_.erase(leaves_.begin());
  pool_.Drop(leaf.page);
  --nodes_;
  parent.next.erase(parent.next.find(*leaf.tokens));
  if (parent.next.empty() && parent.parent != nullptr) leaves_.emplace(parent.used, &parent);
}

void PrefixCache::DropEmptyRoots() {
  std::erase_if(roots_, [](const auto& root) { return root.second.next.empty(); });
}

bool PrefixCache::EvictOne() {
  if (leaves_.empty()) return false;
  RemoveOldest();
  DropEmptyRoots();
  return true;
}

void PrefixCache::DropBelow(Node& node) {
  for (auto& [tokens, next] : node.next) {
    DropBelow(next);
    pool_.Drop(next.page);
    leaves_.erase(next.used);
    --nodes_;
  }
  node.next.clear();
}

void PrefixCache::Forget(std::string_view tenant) {
  auto root = roots_.lower_bound(PrefixOwner{std::string(tenant), {}});
  while (root != roots_.end() && root->first.tenant == tenant) {
    DropBelow(root->second);
    root = roots_.erase(root);
  }
}

}  // namespace nudge
