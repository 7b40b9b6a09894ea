#include "pipeline/config/backend_factory.h"

#include "stages/model/local_backend.h"
#include "stages/model/remote_backend.h"
#include "stages/model/template_backend.h"

namespace nudge {

RemoteBackendOptions RemoteOptions(const Config& config) {
  constexpr size_t kEscaped = 8;  // JSON makes six bytes of one at most; the rest is for the rest
  RemoteBackendOptions options = config.model.remote;
  options.answer_bytes_max = config.processor.graph.emit.outcome_bytes / kEscaped;
  return options;
}

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
  std::unique_ptr<Backend> local = MakeLocalBackend(options);
  if (config.model.backend == "local") return local;
  return MakeRemoteBackend(RemoteOptions(config), std::move(local));
}

}  // namespace nudge
