#include "stages/model/learn/tenant_adapters_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(TenantAdaptersOptions& options) {
  using enum Effect;
  return {
      {"adapt.checkpoint_every_lessons", Number{&options.checkpoint_every_lessons, 1, 1e6}, "",
       kOperational, "of a learner: what a rollback or a forget need not learn again"},
      {"adapt.checkpoint_bytes", Number{&options.checkpoint_bytes, 0, 1e13}, "", kOperational,
       "of a tenant's checkpoints, on disk while the process runs"},
  };
}

}  // namespace nudge
