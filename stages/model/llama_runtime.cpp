#include "stages/model/llama_runtime.h"

#include <llama.h>

#include <mutex>

namespace nudge {
namespace {

constexpr size_t kMaxErrorBytes = 400;
thread_local std::string errors;

void KeepErrors(ggml_log_level level, const char* text, void*) {
  if (level != GGML_LOG_LEVEL_ERROR || errors.size() >= kMaxErrorBytes) return;
  for (const char* at = text; *at != '\0' && errors.size() < kMaxErrorBytes; ++at) {
    if (*at != '\n') {
      errors.push_back(*at);
    } else if (at[1] != '\0') {
      errors.push_back(' ');
    }
  }
}

}  // namespace

void InitialiseLlama() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(KeepErrors, nullptr);
    llama_backend_init();
  });
}

std::string TakeLlamaErrors() {
  std::string taken = std::move(errors);
  errors.clear();
  return taken.empty() ? "no reason given" : taken;
}

}  // namespace nudge
