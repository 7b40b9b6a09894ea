// What recall remembers of a tenant, and how much it lets in: see recall.h.
#pragma once

#include <cstddef>
#include <string>

#include "stages/options.h"

namespace nudge {

struct RecallOptions {
  size_t tenants_per_partition = 10'000;
  // How many events back a duplicate is recognised. About 100 B each, in memory.
  size_t identities_per_tenant = 100'000;
  // Commands are signed: they are recognised as far back in commands, so that no flood of events
  // that need no signature lets an old one count again.
  bool keeps_commands = false;
  // How many queries back feedback is taken.
  size_t queries_per_tenant = 10'000;
  // How often a user may replace what they said of one answer.
  uint32_t replacements_max = 8;
  size_t documents_per_tenant = 100'000;
  size_t chunks_per_tenant = 1'000'000;
  size_t prompts_per_tenant = 16;  // with the default prompt
  std::string default_prompt_id = "default";
  bool adapters_by_user = false;  // adapt.scope: commands name the user whose adapter they act on
};

keys::Fields OptionsOf(RecallOptions& options);

}  // namespace nudge
