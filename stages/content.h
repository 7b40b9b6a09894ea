// What an event says, as a number: Event -> [ContentOf] -> 64 bits, never 0.
//
// Pure function, any thread.
#pragma once

#include <cstdint>

#include "stages/events.h"

namespace nudge {

// The front of SHA-256 over the event's type, user and data as they were decoded: texts byte for
// byte before any cleaning, numbers by their value. Not its time, nor how its JSON was written, so
// that an event that is sent again is the same.
uint64_t ContentOf(const Event& event);

}  // namespace nudge
