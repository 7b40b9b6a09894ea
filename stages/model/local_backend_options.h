// The models of a local backend, and how they are run: see local_backend.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "stages/model/learn/learner_options.h"
#include "stages/options.h"

namespace nudge {

struct LocalBackendOptions {
  std::string language_model;        // GGUF
  std::string served_form = "auto";  // or "file": see serve/served_form.h
  std::string engine = "llama";      // that answers; or "own": see own_answers.h
  // Of engine "own": what its answers are computed with, see engine/text_batch.h.
  size_t answers_together_max = 16;               // 1..256
  size_t prompt_tokens_together_max = 64;         // of one pass
  uint64_t keys_bytes_max = uint64_t{1} << 30;    // a window's at least
  uint64_t prefix_bytes_max = uint64_t{1} << 28;  // of those; 0: nothing is kept
  std::string embedder;                           // GGUF; empty: none
  std::string query_prefix;                       // empty: as the embedder's file says
  std::string passage_prefix;
  uint32_t window_tokens = 2048;
  uint32_t threads_per_answer = 1;
  size_t slots = 2;
  bool learn = true;
  LearnerOptions learner;
  std::string anchors_path;  // JSON lines {"user","assistant"} or {"text"}; empty: no anchors
  std::string products =
      "auto";  // of the weights that lessons run on; or "f32", "bf16", "portable"
  std::string base_memory = "copy";  // where those weights are; or "file"
  size_t learners_in_memory = 4;     // 1 or more; those of other tenants sleep on disk
  std::string spill_folder;          // where they do; empty: the system's temporary folder
  std::string import_folder;         // adapters that events name lie below it; empty: none
  size_t lesson_tokens_max = 2048;   // new, replayed and anchor sequences of one step together, or
                                     // as many as the window has, if those are more
  uint64_t training_bytes_max = uint64_t{3} << 29;  // TrainerLimits::bytes_max
};

keys::Fields OptionsOf(LocalBackendOptions& options);

}  // namespace nudge
