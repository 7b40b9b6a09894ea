#include "stages/recall_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(RecallOptions& options) {
  using enum Effect;
  return {
      {"limits.tenants_per_partition", Number{&options.tenants_per_partition, 1, 1e7}, "",
       kSemantic, "further ones are refused"},
      {"limits.identities_per_tenant", Number{&options.identities_per_tenant, 1, 1e8}, "events",
       kSemantic, "back to which a repeated event is recognised; 100 bytes each"},
      {"limits.queries_per_tenant", Number{&options.queries_per_tenant, 1, 1e8}, "", kSemantic,
       "back to which feedback is taken"},
      {"adapt.replacements_max", Number{&options.replacements_max, 0, 1000}, "", kSemantic,
       "of what one user said of one answer; later words of theirs on it teach nothing"},
      {"limits.prompts_per_tenant", Number{&options.prompts_per_tenant, 1, 1000}, "", kSemantic,
       "with the default prompt; further ones are refused"},
  };
}

}  // namespace nudge
