// llama.cpp's process-wide state: its initialisation and its log. Private to stages/model.
//
// llama.cpp and ggml tell why they refuse something in log lines only. Nothing of their log reaches
// the terminal; the errors of the calling thread are kept, so that ours can name the reason.
#pragma once

#include <string>

namespace nudge {

// Once before any other call of llama.cpp or ggml; later calls do nothing. Any thread.
void InitialiseLlama();

// What llama.cpp logged as an error on this thread since the last call, one line, or "no reason
// given". Call it right before a llama.cpp call to forget, right after to learn.
std::string TakeLlamaErrors();

// Whether these errors say that there was no memory, which is no fault of the file.
bool IsWantOfMemory(const std::string& llama_errors);

// TakeLlamaErrors for a file that llama.cpp did not load or make a context of: "no memory to load
// it: ...", or REFUSAL with the errors.
std::string WhyNotLoaded(const std::string& refusal);

// While one is alive, its thread loads this model: where ggml finds no memory, which ends the
// process, the message names it, and the exit code says that nothing was done (2).
class LoadingModel {
 public:
  explicit LoadingModel(const std::string& path);
  ~LoadingModel();
  LoadingModel(const LoadingModel&) = delete;
  LoadingModel& operator=(const LoadingModel&) = delete;
};

// StopRun, for a run that finds no memory: whatever it did instead would depend on the machine's
// free memory, and outcomes must not.
[[noreturn]] void StopWithoutMemory();

}  // namespace nudge
