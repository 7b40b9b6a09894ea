#include "stages/model/learn/known_prompts.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace nudge {

bool AreAlike(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto [left, right] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const std::set<int32_t> of_a(left, a.end());
  const std::set<int32_t> of_b(right, b.end());
  TokenList both;
  std::set_intersection(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(),
                        std::back_inserter(both));
  const size_t either = of_a.size() + of_b.size() - both.size();
  return static_cast<double>(both.size()) >=
         KnownPrompts::kAlike * static_cast<double>(either);  // the same prompts: 0 of 0
}

void KnownPrompts::Know(std::span<const int32_t> prompt) {
  std::erase_if(prompts_, [&](const TokenList& known) { return AreAlike(known, prompt); });
  prompts_.emplace_back(prompt.begin(), prompt.end());
  if (prompts_.size() > kMost) prompts_.pop_front();
}

std::vector<const TokenList*> KnownPrompts::Unlike(std::span<const int32_t> prompt,
                                                   size_t tokens_max) const {
  std::vector<const TokenList*> unlike;
  for (const TokenList& known : prompts_) {
    if (known.size() <= tokens_max && !AreAlike(known, prompt)) unlike.push_back(&known);
  }
  return unlike;
}

void KnownPrompts::Save(ByteWriter& out) const {
  out.U64(prompts_.size());
  for (const TokenList& prompt : prompts_) {
    out.U64(prompt.size());
    for (const int32_t token : prompt) out.U32(static_cast<uint32_t>(token));
  }
}

void KnownPrompts::Load(ByteReader& in) {
  prompts_.clear();
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    TokenList& prompt = prompts_.emplace_back();
    for (uint64_t tokens = in.U64(); tokens > 0 && !in.failed(); --tokens) {
      prompt.push_back(static_cast<int32_t>(in.U32()));
    }
  }
}

}  // namespace nudge
