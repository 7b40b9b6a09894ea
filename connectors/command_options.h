// Whether commands need a signature: see command_keys.h.
#pragma once

#include <string>

#include "stages/options.h"

namespace nudge {

struct CommandOptions {
  std::string keys_file;  // empty: whoever may write to the input commands
};

keys::Fields OptionsOf(CommandOptions& options);

}  // namespace nudge
