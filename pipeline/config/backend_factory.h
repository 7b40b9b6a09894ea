// The configuration's model section as a backend: Config -> [MakeBackend] -> Backend.
//
// At start-up only; any thread. Throws StartError.
#pragma once

#include <memory>

#include "pipeline/config/config.h"
#include "stages/model/backend.h"

namespace nudge {

// For a remote backend: an answer must fit its outcome, or it would be nowhere to be taken from in
// a recovery.
RemoteBackendOptions RemoteOptions(const Config& config);

// The backend that the configuration names.
std::unique_ptr<Backend> MakeBackend(const Config& config);

}  // namespace nudge
