// Which adapter version serves, and what an event changes in it: Resolved -> [Adapt] -> Pinned.
//
// Only numbers: no weights pass through here. A Step is one lesson of the tenant's adapter, in log
// order; a Version is a set of weights that can serve. Versions are assigned here, at their place
// in the log, before anything is computed, never twice, and never change. What each event does:
//   feedback with a reward or a correction, example   a step; every publish_every_steps-th makes a
//                                                     version, which serves from here on
//   import, forget                                    a step that always makes a version
//   rollback                                          a step without a version: serve points to an
//                                                     older one, and later steps go on from there;
//                                                     steps not yet published are dropped
//   reset                                             the same, to version 0
//   freeze, unfreeze                                  no step
// While frozen, users teach nothing: feedback and examples add no step. The operator's own commands
// (rollback, reset, import) and forget act all the same.
//
// Nothing is refused here (see recall.h): a rollback to a version that is not kept, or a lesson
// without effect, comes out without a step, and the receipt says so. Kept are version 0 and the
// last versions_kept made; after a forget only version 0 and the one that it makes, since older
// ones still hold what is to be forgotten.
//
// One event at a time, in log order; see state.h for who calls Save, Load and Drop.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "stages/adapt_options.h"
#include "stages/events.h"
#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

class Adapt {
 public:
  explicit Adapt(AdaptOptions options = {});

  // Never an error. Pinned::serve is the version that answers a query, and for every other event
  // the version that serves after it. Pinned::parent is what serve was before the event.
  Result<Pinned> Apply(Sequence at, const Resolved& resolved);

  void Save(int32_t partition, Changes& changes);
  Result<Nothing> Load(int32_t partition, const Change& entry);
  void Drop(int32_t partition);

 private:
  struct Offer {  // an event from which something could be learnt
    std::string user;
    bool became_step = false;
  };
  struct Tenant {
    Version serve = 0;
    Version made = 0;  // the highest so far
    uint64_t steps = 0;
    uint64_t steps_unpublished = 0;
    bool frozen = false;
    bool taught = false;                   // by feedback or an example, ever
    std::map<Version, Version> parent_of;  // of the versions kept
    std::deque<Offer> offers;
    bool changed = false;
  };

  void Teach(Tenant& tenant, const std::string& user, Pinned& pinned) const;
  void Command(Tenant& tenant, const AdapterCommand& command, Pinned& pinned) const;
  bool MayTeach(const Tenant& tenant, const std::string& user) const;
  void MakeVersion(Tenant& tenant, Step& step) const;

  AdaptOptions options_;
  Tenants<Tenant> tenants_;
};

}  // namespace nudge
