// What a backend without a model makes: see template_backend.h.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "stages/options.h"

namespace nudge {

struct TemplateBackendOptions {
  size_t dimension = 64;  // of its toy vectors: words hashed into buckets; 0: none
  size_t window_tokens = 2048;
  std::string import_folder;               // files that events name lie below it; empty: none
  bool instant = true;                     // false, and where there is a delay: called by threads
  std::function<void()> before_each_call;  // tests: a seeded delay; may be empty
};

keys::Fields OptionsOf(TemplateBackendOptions& options);

}  // namespace nudge
