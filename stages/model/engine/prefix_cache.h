// Beginnings of texts that were read before: (owner, tokens) -> [PrefixCache] -> pages to go on
// from.
//
// An owner is a tenant with a version of its adapter: keys and values depend on the adapter, and no
// tenant learns from the speed of an answer what another one has read. Whole pages are kept, as a
// tree by their tokens, so that texts share what they share; the page that was used the longest
// time ago goes first, and never before those that continue it. What a page holds is what reading
// the tokens again would write, so that the cache changes no bit.
//
// Used by the thread that uses the pool.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/model/engine/key_pages.h"

namespace nudge {

struct PrefixOwner {
  std::string tenant;
  std::string version;  // the adapter's digest; empty: the base model

  friend auto operator<=>(const PrefixOwner&, const PrefixOwner&) = default;
};

class PrefixCache {
 public:
  // Keeps as many of the pool's pages as bytes_max has room for. The pool outlives it.
  PrefixCache(KeyPages& pool, size_t bytes_max);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The pages of the longest beginning of these tokens that is kept, for KeySequence::Share. At
  // least one token is left to read, since its logits are not kept. Valid until the next call.
  std::vector<PageId> Find(const PrefixOwner& owner, std::span<const int32_t> tokens);

  // Keeps the whole pages of a sequence that has read these tokens, as far as there is room when
  // all else has gone. Requires sequence.length() tokens.
  void Keep(const PrefixOwner& owner, std::span<const int32_t> tokens, const KeySequence& sequence);

  // Drops what is kept of all of a tenant's versions.
  void Forget(std::string_view tenant);

  // Drops the page that was used the longest time ago. False: there is none. The pool has one page
  // more if no sequence holds it.
  bool EvictOne();

  size_t pages() const { return nodes_; }
  size_t pages_max() const { return pages_max_; }

 private:
  using PageTokens = std::array<int32_t, kPageTokens>;
  struct Node {
    PageId page = 0;
    uint64_t used = 0;  // the greatest was used last; no two are equal
    Node* parent = nullptr;
    const PageTokens* tokens = nullptr;  // its key among the parent's
    std::map<PageTokens, Node> next;
  };

  static PageTokens TokensOf(std::span<const int32_t> tokens, size_t page);
  void Touch(Node& node);
  void RemoveOldest();  // requires that there is one; may leave an owner without any
  void DropEmptyRoots();
  void DropBelow(Node& node);

  KeyPages& pool_;
  const size_t pages_max_;
  size_t nodes_ = 0;
  uint64_t uses_ = 0;
  std::map<PrefixOwner, Node> roots_;  // of no page
  std::map<uint64_t, Node*> leaves_;   // by `used`: what nothing continues
};

}  // namespace nudge
