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
#include "stages/model/template_backend_options.h"

namespace nudge {

std::unique_ptr<Backend> MakeTemplateBackend(TemplateBackendOptions options);

}  // namespace nudge
