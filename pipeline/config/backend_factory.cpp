#include "pipeline/config/backend_factory.h"

#include "stages/model/local_backend.h"
#include "stages/model/template_backend.h"

namespace nudge {

std::unique_ptr<Backend> MakeBackend(const Config& config) {
  if (config.model.backend == "template") {
    TemplateBackendOptions options = config.model.template_backend;
    options.window_tokens = config.model.local.window_tokens;
    options.import_folder = config.model.local.import_folder;
    return MakeTemplateBackend(std::move(options));
  }
  LocalBackendOptions options = config.model.local;
  options.slots = config.processor.executor.threads;
  options.learn = config.processor.adapt.enabled;
  options.spill_folder = StateFolder(config);
  return MakeLocalBackend(options);
}

}  // namespace nudge
