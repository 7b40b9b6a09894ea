#include "stages/respond_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(RespondOptions& options) {
  using enum Effect;
  return {
      {"respond.prompt_tokens_max", Number{&options.prompt_tokens_max, 16, 131072}, "", kSemantic,
       "beyond which passages and examples are left out"},
      {"limits.answers_per_tenant", Number{&options.records_per_tenant, 1, 1e7}, "", kSemantic,
       "back to which feedback can still teach, since prompt and answer are kept"},
      {"cache.answers_per_tenant", Number{&options.cache_entries_per_tenant, 0, 1e7}, "", kSemantic,
       "that are given again while passages, prompt and adapter are the same; 0: none"},
  };
}

}  // namespace nudge
