// Whose lessons follow from what they are about: evidence of each lesson -> [Credit] -> a balance.
//
// The evidence of a lesson is how much likelier the base model finds its text behind its own prompt
// than behind other prompts of the tenant, in nats (pointwise mutual information). A text that
// takes up what was asked or shown has some, whatever its form; one that says the same to
// everybody, or belongs to another question, has none. One lesson proves little: a person may
// rightly answer some questions by "I cannot help with that". So evidence is summed up for each
// voice between two bounds, as a CUSUM does (Page 1954): a balance above 0 lets a lesson be learnt,
// a few without evidence in a row use it up, and a few with evidence bring it back. A new voice
// begins with what its first lesson needs if that has half of the usual evidence: what is set aside
// then is tried again once the voice has credit, so little is lost by it.
//
// A new voice of a known source begins with what the others of that source have on average, within
// kNewLeast..kStart: where all of them teach nonsense a new name does not help, and whoever joins
// them shows twice the usual evidence, or some twice. People of other sources are not asked.
//
// Plain value of one learner; one call at a time. A function of the calls before.
#pragma once

#include <cstdint>
#include <map>

#include "stages/model/learn/influence.h"
#include "stages/state.h"

namespace nudge {

class Credit {
 public:
  static constexpr double kStart = 0.5;
  static constexpr double kNewLeast = -0.5;
  static constexpr double kMost = 3;
  static constexpr double kLeast = -4;
  static constexpr size_t kVoicesMax = 1000;  // of more, who has taught nothing for longest leaves

  double Of(const Voice& voice) const;

  // A lesson of so much evidence. What is worth nothing: (evidence - usual) / usual, within -1..1;
  // requires usual > 0.
  void Book(const Voice& voice, double evidence, double usual);

  void Save(ByteWriter& out) const;
  void Load(ByteReader& in);

 private:
  struct Account {
    double balance = 0;
    uint64_t booked = 0;  // the number of the last booking
  };
  std::map<Voice, Account> accounts_;
  uint64_t bookings_ = 0;
};

}  // namespace nudge
