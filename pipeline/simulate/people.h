// Who asks what, and what they say to the answer: a world and a seed, turned into turns.
//
//   World, seed -> [People] -> Turn;   Turn, answer -> [FeedbackOf] -> Feedback
//
// A turn is a function of world, seed and its number alone: no turn depends on those before it, so
// one that is left out changes no other. Pure; any thread. The world must outlive what is made
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/simulate/world.h"
#include "stages/events.h"

namespace nudge {

struct Turn {
  uint32_t lesson = 0;  // its number, from 0
  const WorldUser* user = nullptr;
  std::string name;    // that the user goes by this time
  std::string source;  // of their events: one a user, whatever the names
  const WorldQuestion* question = nullptr;
  const WorldQuestion* other = nullptr;  // another one, that is asked too
  const Reaction* reaction = nullptr;
  const WorldForm* form = nullptr;  // that the user wants
  bool turned = false;              // a thumb goes the other way
};

class People {
 public:
  People(const World& world, uint64_t seed);

  // Questions that no turn asks, in the order of the world.
  const std::vector<const WorldQuestion*>& held_out() const { return held_out_; }
  Turn TurnAt(uint32_t lesson) const;

 private:
  const WorldUser& UserAt(uint32_t lesson) const;

  const World& world_;
  const uint64_t seed_;
  std::vector<const WorldQuestion*> held_out_;
  std::vector<const WorldQuestion*> asked_;
};

// Whether the feedback depends on the answer.
bool NeedsAnswer(const Turn& turn);

// Without the answer's query_id. `answer` is looked at where NeedsAnswer says so.
Feedback FeedbackOf(const Turn& turn, std::string_view answer);

// 0..count-1 in an order that is the seed's.
std::vector<size_t> Permutation(size_t count, uint64_t seed);

}  // namespace nudge
