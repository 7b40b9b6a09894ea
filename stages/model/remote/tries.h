// How calls of another server are tried again, and by which key they are made: what all clients of
// stages/model/remote share. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace nudge {

// Whether a call that this HTTP status answers may end otherwise later: too busy, or a fault of the
// server's own.
bool MayPass(int status);

// Behind a try that failed, the `tries`th (1..): 250 ms, doubled each time, 8 s at most.
std::chrono::milliseconds PauseBehind(uint32_t tries);

// False: `cancelled`, which may be empty, said so; that is seen within some milliseconds.
bool Pause(std::chrono::milliseconds pause, const std::function<bool()>& cancelled);

// The one line of a file, of visible ASCII; an empty path: none. Throws StartError behind the name
// of the option, and never says a byte of what is in the file.
std::string ReadServerKey(const std::string& path, const std::string& option);

}  // namespace nudge
