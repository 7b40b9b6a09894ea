// How a live run writes its log: see log_sink.h.
#pragma once

#include <string>

#include "stages/options.h"

namespace nudge {

struct LogOptions {
  std::string level = "info";
  std::string format = "text";
};

keys::Fields OptionsOf(LogOptions& options);

}  // namespace nudge
