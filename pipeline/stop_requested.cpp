#include "pipeline/stop_requested.h"

namespace nudge {

std::atomic<bool> stop_requested{false};

}  // namespace nudge
