#include "stages/adapt_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(AdaptOptions& options) {
  using enum Effect;
  return {
      {"adapt.enabled", Flag{&options.enabled}, "", kSemantic, "false: the base model serves"},
      {"adapt.scope", Choice{&options.scope, {"tenant", "user"}}, "", kSemantic,
       "whose feedback teaches whom: tenant: everybody teaches one adapter that answers everybody "
       "in the tenant; user: each user teaches an adapter that answers them alone"},
      {"adapt.users_per_tenant_max", Number{&options.users_per_tenant_max, 1, 1e6}, "", kSemantic,
       "who have adapters of their own where scope is user; what further ones say is not learnt"},
      {"adapt.publish_every_steps", Number{&options.publish_every_steps, 1, 10'000}, "", kSemantic,
       "until what was learnt is served as a new version"},
      {"adapt.versions_kept", Number{&options.versions_kept, 1, 1000}, "", kSemantic,
       "per tenant: how far a rollback can go"},
      {"adapt.snapshot_every_versions", Number{&options.snapshot_every_versions, 0, 1e6}, "",
       kSemantic, "until one is written as files for other servers and browsers; 0: none is"},
      {"adapt.user_window_events", Number{&options.user_window_events, 1, 10'000}, "", kSemantic,
       "of a tenant, over which lessons are counted by user"},
      {"adapt.lead_lessons", Number{&options.lead_lessons, 0, 10'000}, "lessons", kSemantic,
       "that a user may have in that window beyond what is usual among the others in it; 0: no "
       "bound"},
      {"adapt.relearn_lessons_per_event", Number{&options.relearn_lessons_per_event, 1, 1e6}, "",
       kSemantic,
       "learnt again after a forget for each event of the tenant until the result takes over"},
      {"adapt.replace_lessons_max", Number{&options.replace_lessons_max, 0, 1e6}, "", kSemantic,
       "the newest, of which one that its user replaces or takes back is unlearnt at once; older "
       "ones are with the next rebuild that passes them"},
      {"adapt.learn_restricted", Flag{&options.learn_restricted}, "", kSemantic,
       "true: answers that rest on documents with an access list teach the adapter, which may tell "
       "them to everybody in the tenant"},
      {"limits.lessons_per_tenant", Number{&options.lessons_per_tenant, 1, 1e7}, "", kSemantic,
       "kept to learn an adapter again without some; older ones can no longer be unlearnt"},
  };
}

}  // namespace nudge
