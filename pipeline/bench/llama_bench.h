// llama.cpp's own benchmark, run as a child: what a model file gives on this machine without nudge.
//
//   LlamaBenchTask -> `llama-bench -o jsonl ...` -> LlamaBenchTimes
//
// For `nudge bench train --beside`. Main thread only. StartError says what is wrong with the
// program or with what it printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace nudge {

// One thing to time. Either prompt_tokens or drawn_tokens is 0.
struct LlamaBenchTask {
  std::string model;         // GGUF
  size_t prompt_tokens = 0;  // in one go
  size_t drawn_tokens = 0;   // one at a time
  size_t depth_tokens = 0;   // of a prompt before those, not timed
  uint32_t threads = 1;
  bool embeddings = false;
};

struct LlamaBenchTimes {
  double shipped_ms = 0;  // flash attention as llama.cpp chooses
  double plain_ms = 0;    // without it, as nudge has it
};

// The times of `task` in the lines that llama-bench printed; other lines are passed over. Throws.
LlamaBenchTimes ParseLlamaBench(const std::string& printed, const LlamaBenchTask& task);

class LlamaBench {
 public:
  // Tries it on one token of `model`. A name without a slash is looked for in PATH. Throws.
  LlamaBench(std::string program, const std::string& model);

  // One warm-up and one timed run each. Returns when the child has ended. Throws.
  LlamaBenchTimes Run(const LlamaBenchTask& task) const;

 private:
  std::string program_;
};

}  // namespace nudge
