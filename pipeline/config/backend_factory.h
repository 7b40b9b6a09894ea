// The configuration's model section as a backend: Config -> [MakeBackend] -> Backend.
//
// At start-up only; any thread. Throws StartError.
#pragma once

#include <memory>

#include "pipeline/config/config.h"
#include "stages/model/backend.h"
#include "stages/model/learn/learner.h"
#include "stages/model/trainer/frozen_matrix.h"

namespace nudge {

// The backend that the configuration names.
std::unique_ptr<Backend> MakeBackend(const Config& config);

// In what numbers lessons multiply here, and where they have the base's weights. Throws StartError
// where this processor cannot.
BaseForm BaseFormOf(const LearnSettings& settings);

// How lessons change an adapter.
LearnerOptions LearnerOptionsOf(const LearnSettings& settings);

}  // namespace nudge
