#include "stages/model/serve/llama_runtime.h"

#include <ggml.h>
#include <llama.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "stages/exit_code.h"
#include "stages/log.h"
#include "stages/stop_run.h"

namespace nudge {
namespace {

constexpr size_t kMaxErrorBytes = 400;
constexpr const char* kMoreMemory =
    "no memory to load it: give the machine more, or name a smaller model";
thread_local std::string errors;
thread_local const char* loading = nullptr;

// ggml ends the process at the first block of memory that it does not get.
void OnAbort(const char* message) {
  if (errno != ENOMEM && std::strstr(message, "mem_buffer") == nullptr) {
    Log(LogLevel::kError, message);
    return;  // a defect: ggml aborts
  }
  if (loading == nullptr) StopWithoutMemory();
  char line[1024];  // on the stack: there is no memory
  std::snprintf(line, sizeof line, "%s: %s", loading, kMoreMemory);
  Log(LogLevel::kError, line);
  std::_Exit(kExitUsage);
}

void KeepErrors(ggml_log_level level, const char* text, void*) {
  if (level != GGML_LOG_LEVEL_ERROR || errors.size() >= kMaxErrorBytes) return;
  if (!errors.empty() && errors.back() != ' ') errors += "; ";
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
    ggml_set_abort_callback(OnAbort);
    llama_backend_init();
  });
}

bool IsWantOfMemory(const std::string& llama_errors) {
  for (const char* words : {"bad_alloc", "Cannot allocate memory", "insufficient memory"}) {
    if (llama_errors.find(words) != std::string::npos) return true;
  }
  return false;
}

std::string WhyNotLoaded(const std::string& refusal) {
  const std::string why = TakeLlamaErrors();
  return IsWantOfMemory(why) ? kMoreMemory : refusal + ": " + why;
}

LoadingModel::LoadingModel(const std::string& path) {
  loading = path.c_str();
}
LoadingModel::~LoadingModel() {
  loading = nullptr;
}

void StopWithoutMemory() {
  StopRun("no memory left",
          "give it more memory and run the same command again, or lower executor.threads, "
          "model.window_tokens, adapt.learners_in_memory or limits.*, or set adapt.base_memory to "
          "file");
}

std::string TakeLlamaErrors() {
  std::string taken = std::move(errors);
  errors.clear();
  return taken.empty() ? "no reason given" : taken;
}

}  // namespace nudge
