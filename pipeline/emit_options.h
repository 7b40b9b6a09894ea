// How large an outcome may be: see emit.h.
#pragma once

#include <cstddef>

#include "stages/options.h"

namespace nudge {

struct EmitOptions {
  size_t dead_letter_bytes = 4096;  // of the event's bytes kept in its dead letter
  size_t outcome_bytes = 900'000;   // of an outcome with key and chain: what the sink can take
};

keys::Fields OptionsOf(EmitOptions& options);

}  // namespace nudge
