// The models of a local backend, and how they are run: see local_backend.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "stages/model/learn/learner_options.h"
#include "stages/model/trainer/frozen_matrix.h"

namespace nudge {

struct LocalBackendOptions {
  std::string language_model;  // GGUF
  std::string embedder;        // GGUF; empty: none
  std::string query_prefix;    // empty: as the embedder's file says
  std::string passage_prefix;
  size_t slots = 2;
  uint32_t threads_per_answer = 1;
  uint32_t window_tokens = 2048;
  bool learn = true;
  LearnerOptions learner;
  size_t learners_in_memory = 4;    // 1 or more; those of other tenants sleep on disk
  std::string spill_folder;         // where they do; empty: the system's temporary folder
  BaseForm base_form;               // of the weights that lessons run on
  size_t lesson_tokens_max = 2048;  // new, replayed and anchor sequences of one step together
  std::string anchors_path;   // JSON lines {"user","assistant"} or {"text"}; empty: no anchors
  std::string import_folder;  // adapters that events name lie below it; empty: none
};

}  // namespace nudge
