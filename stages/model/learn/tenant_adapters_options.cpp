#include "stages/model/learn/tenant_adapters_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(TenantAdaptersOptions& options) {
  using enum Effect;
  return {
      {"limits.lessons_per_tenant", Number{&options.journal_examples, 1, 1e7}, "", kSemantic,
       "kept to rebuild an adapter without some; older ones can no longer be unlearnt"},
  };
}

}  // namespace nudge
