// How much of a step belongs to whom: who teaches, whose lessons are kept -> [Influence] -> shares.
//
// A step is made of the new lesson and of earlier ones. What counts is not how often somebody
// teaches, but that all who teach have the same say: sources share equally, and so do the people of
// a source among themselves. Each share of a step is booked for its voice, and fades
// within as many steps as give each voice `lessons` of its own. A new lesson gets what its voice is
// short of, and at most an equal part of the step; the rest goes to earlier lessons of those who
// are furthest short. So who clicks ten times as often as others gets a tenth as much for each
// click, and each click lets the others have their say. Where there is one voice, it has all of
// each step.
//
// This is deficit round robin (Shreedhar, Varghese 1995) with parts of gradients in place of bytes.
//
// Plain value of one learner; one call at a time. A function of the calls before.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>

#include "stages/state.h"

namespace nudge {

// Who teaches: a person of a source (a client program, a key), both by a hash of their names.
struct Voice {
  uint64_t source = 0;
  uint64_t person = 0;

  friend auto operator<=>(const Voice&, const Voice&) = default;
};

class Influence {
 public:
  // Of a lesson whose voice has had more than its share already: so small that it moves nothing,
  // and not 0, since a batch's weights are to be positive.
  static constexpr double kLeastShare = 1e-3;

  // The part of the next step, kLeastShare..`most`, for a new lesson of `voice`. `present`: all who
  // have lessons, this voice too.
  double ShareOf(const Voice& voice, const std::set<Voice>& present, double most) const;

  // Of `candidates`, who is furthest short; of equals the first. `given`: what of the next step is
  // dealt out already. Requires a candidate.
  Voice FurthestShort(const std::set<Voice>& present, const std::map<Voice, double>& given,
                      const std::set<Voice>& candidates) const;

  // A step was made of these shares, which sum to 1, while so many voices were present.
  void Book(const std::map<Voice, double>& shares, size_t present, double lessons);

  void Save(ByteWriter& out) const;
  void Load(ByteReader& in);

 private:
  double Short(const Voice& voice, const std::set<Voice>& present) const;

  std::map<Voice, double> had_;  // those that are not faded away
};

}  // namespace nudge
