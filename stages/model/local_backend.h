// The real backend: llama.cpp serves and embeds, nudge's trainer learns, on this machine.
//
// Serves any GGUF chat model. Learns where FrozenWeights::Check finds nothing in the way (llama,
// qwen2, qwen3); CanLearn says so for others.
// Training runs on the dequantised weights, serving on the file as it is, or on the form of it that
// was made for this machine (serve/served_form.h); with engine "own" the answers are nudge's too
// (own_answers.h), and llama.cpp has the text alone. Adapters are handed over in memory. The
// training copy of the model (f32, about eight times a Q4 file, unless its options says otherwise)
// is loaded at the first lesson, so that the first answer does not wait for it.
//
// Threads: as Backend. Lessons of two tenants take turns, since they share the trainer's memory.
// Learners of tenants that have not learnt lately are on disk (stages/model/learn/learner_shelf.h).
#pragma once

#include <memory>
#include <string>

#include "stages/model/backend.h"
#include "stages/model/learn/learner.h"
#include "stages/model/local_backend_options.h"
#include "stages/model/trainer/frozen_matrix.h"

namespace nudge {

// In what numbers lessons multiply here, and where they have the base's weights. Throws StartError
// where this processor cannot.
BaseForm BaseFormOf(const LocalBackendOptions& options);

// The file whose weights answer: the model's, or its form. Throws StartError: it is damaged.
std::string AnsweringFile(const LocalBackendOptions& options);

// Throws StartError: a file that is missing or not what it should be, options out of range, no
// memory. Afterwards a process that finds no memory, or whose disk does not give back a learner,
// ends with a sentence and exit code 1 (StopRun): an answer or a lesson that failed for that would
// stand in the outcomes.
std::unique_ptr<Backend> MakeLocalBackend(const LocalBackendOptions& options);

}  // namespace nudge
