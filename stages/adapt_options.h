// When a tenant's adapter learns and what is served of it: see adapt.h.
#pragma once

#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct AdaptOptions {
  bool enabled = true;  // false: the base model serves, no event makes a step
  // "tenant": what anybody teaches, everybody in the tenant is answered with. "user": each user
  // teaches an adapter of their own, and nobody else is answered with it.
  std::string scope = "tenant";
  uint32_t users_per_tenant_max = 32;    // who have adapters of their own; 1 or more
  uint32_t publish_every_steps = 1;      // 1 or more
  uint32_t snapshot_every_versions = 0;  // every n-th version made is written; 0: none
  uint32_t versions_kept = 8;            // 1 or more
  // Over the tenant's last user_window_events from which something could be learnt, nobody has more
  // than lead_lessons admitted beyond what is usual among the others of them, so that one loud user
  // does not make everybody's adapter: see adapt.h. lead_lessons 0: no such bound.
  uint32_t user_window_events = 128;
  uint32_t lead_lessons = 8;
  // Of which the words are kept, admitted or not; older ones can no longer be unlearnt one by one.
  uint32_t lessons_per_tenant = 10'000;
  // A forget that makes this many lessons be learnt again gets one more event of its tenant before
  // what is learnt then takes over: see lineage.h.
  uint32_t relearn_lessons_per_event = 4;
  // Of the newest that the head has learnt, one that a later word replaces is unlearnt at once;
  // older ones are with the next rebuild: see lineage.h.
  uint32_t replace_lessons_max = 32;
  // Whether an answer that rests on a document with an access list teaches the tenant's adapter,
  // which serves those, too, who may not see the document.
  bool learn_restricted = false;

  bool is_by_user() const { return scope == "user"; }
};

keys::Fields OptionsOf(AdaptOptions& options);

}  // namespace nudge
