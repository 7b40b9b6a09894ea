// The last prompts of a tenant, unlike each other: what a lesson's text is held against.
// prompt of a lesson -> [KnownPrompts] -> others that say something else.
//
// Behind a prompt that says nearly the same a text is as likely as behind its own, so that one
// proves nothing: of two that are alike the later is kept. So a flood of one question pushes no
// other out, and where all prompts of a tenant are alike there is nothing to compare with. Alike:
// behind what both begin with (system prompt, few-shots), the tokens that both have are kAlike or
// more of those that one of them has (Jaccard 1901). House prompts of different questions have .24
// (middle of 66 pairs, .66 at most), "Lamp 3 costs 30 euros." and its likes .88 (.79 at least).
//
// Plain value of one learner; one call at a time. A function of the calls before.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "stages/state.h"

namespace nudge {

using TokenList = std::vector<int32_t>;

bool AreAlike(std::span<const int32_t> a, std::span<const int32_t> b);

class KnownPrompts {
 public:
  static constexpr size_t kMost = 16;
  static constexpr double kAlike = 0.7;

  void Know(std::span<const int32_t> prompt);

  // Those that are not like it and not longer than `tokens_max`, the latest last. They live until
  // the next Know.
  std::vector<const TokenList*> Unlike(std::span<const int32_t> prompt, size_t tokens_max) const;

  void Save(ByteWriter& out) const;
  void Load(ByteReader& in);

 private:
  std::deque<TokenList> prompts_;
};

}  // namespace nudge
