// libFuzzer harness for ParseConfig: any bytes are a valid configuration or a message that says
// what is wrong with them. scripts/fuzz runs it; config_tests.cpp runs it over the seeds in the
// normal build.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "pipeline/config/config.h"

namespace nudge {
namespace {

// What the stages rely on.
void CheckConfig(const Config& config) {
  ENSURE(config.deterministic);
  ENSURE(!config.input.path.empty() && !config.output.folder.empty());
  ENSURE(config.model.backend == "template" || !config.model.local.language_model.empty());
  ENSURE(config.model.local.learner.rank >= 1 && config.model.local.learner.rank <= 64);
  ENSURE(config.model.local.learner.optimizer.learning_rate > 0 &&
         config.model.local.learner.optimizer.learning_rate <= 1);
  ENSURE(config.processor.index.passages >= 1 &&
         config.processor.index.passages <= config.processor.index.candidates);
  ENSURE(!config.processor.prompt.presets.empty());
  for (const DecodingPreset& preset : config.processor.prompt.presets) {
    ENSURE(!preset.name.empty());
    ENSURE(preset.decoding.max_tokens < config.model.local.window_tokens);
  }
  if (config.model.local.anchors_path.empty()) {  // else a file's content counts
    ENSURE(SemanticSha256(config).size() == 64);
    ENSURE(ToProcessorOptions(config).configuration_sha256 == SemanticSha256(config));
  }
}

void CheckMessage(const std::string& message) {
  ENSURE(!message.empty() && message.size() < 50'000);
  for (const char c : message) {
    ENSURE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  }
}

}  // namespace
}  // namespace nudge

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::optional<nudge::Config> config;
  try {
    config = nudge::ParseConfig(bytes, "folder");
  } catch (const nudge::StartError& error) {
    nudge::CheckMessage(error.what());
  }
  if (config) nudge::CheckConfig(*config);
  return 0;
}
