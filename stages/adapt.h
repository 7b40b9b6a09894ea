// Whose lessons count: Resolved -> [Adapt] -> Admission.
//
// An event offers a lesson if it is feedback with a reward or a correction, or an example. Of the
// tenant's last user_window_events offers, a user may have at most lead_lessons more admitted than
// whoever taught a lesson that is taken at random from the others' there: the sum of the squares of
// the others' counts over the sum of their counts. So who is alone is not bound; a few guests bind
// nobody among many who teach alike; two who help each other lift each other up only where the rest
// are hardly there; and who is silent for a whole window binds nobody. Offers without a user are
// those of one nameless user.
//
// Where users have adapters of their own (adapt.scope), each is alone with theirs, and all that
// they offer is admitted.
//
// While frozen, users teach nothing: their events are no offers. What becomes of an admitted offer
// is the lineage's business (lineage.h), since that needs to know whose words were shown.
//
// The last lessons_per_tenant offers are kept, so that a forget can say which offers would have
// been admitted had the forgotten user, or event, never made any. What was admitted stays admitted.
//
// A user's later word on an answer takes the place of their earlier offer, admitted or not as that
// was: a changed mind costs nothing and gains nothing. One that teaches nothing removes it; what it
// had kept out until then stays out.
//
// Nothing is refused here (see recall.h). One event at a time, in log order; see state.h for who
// calls Save, Load and Drop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "stages/adapt_options.h"
#include "stages/events.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Adapt {
 public:
  explicit Adapt(AdaptOptions options = {}) : options_(options) {}

  // Never an error.
  Result<Admission> Apply(Sequence at, const Resolved& resolved);

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  struct Offer {
    std::string user;
    std::set<EventName> events;  // itself, and the question that it is about
    bool admitted = false;
    uint64_t lesson = 0;  // the Sequence of the last word
  };
  using Offers = Table<uint64_t, Offer>;  // by the first word's Sequence
  struct Tenant {
    Offers offers;
    bool frozen = false;
    bool frozen_changed = false;
  };

  bool MayTeach(const Offers& offers, Offers::Rows::const_iterator end,
                const std::string& user) const;
  struct Replaced {
    uint64_t key = 0;
    bool admitted = false;
  };
  static std::optional<Replaced> TakeOut(Offers& offers, const std::vector<Sequence>& earlier);
  std::vector<Sequence> Forget(Offers& offers, const nudge::Forget& forget) const;
  void Remove(Offers& offers, const std::function<bool(const Offer&)>& is_gone,
              std::set<uint64_t>& admitted) const;

  AdaptOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
