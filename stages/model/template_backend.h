// A backend without a model, for tests and benchmarks of the engine. Its answers are a template
// filled with hashes, its learner a fold of hashes: worthless as answers, exact as witnesses, since
// every byte depends on the whole prompt, on the adapter and on every lesson in order.
//
// Threads: as Backend.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "stages/model/backend.h"

namespace nudge {

struct TemplateBackendOptions {
  size_t dimension = 0;  // of its toy vectors: words hashed into buckets; 0: none
  size_t window_tokens = 2048;
  bool instant = true;                     // false, and where there is a delay: called by threads
  std::function<void()> before_each_call;  // tests: a seeded delay; may be empty
};

std::unique_ptr<Backend> MakeTemplateBackend(TemplateBackendOptions options);

}  // namespace nudge
