// Somebody else's program that reads what strangers sent: bytes -> [RunConfined] -> its output.
//
// It is given its input as a file at its standard input, and gives text at its standard output; it
// has no other. What it may do beside reading is a bound on what an error in it can cost: it opens
// files of the system to read (/usr, /lib, /etc/fonts and the like), no other and none to write; it
// has no network, makes no process, signals and watches none; as root it becomes nobody. Time,
// memory and output are limited, past them it is killed. Linux alone: Landlock and seccomp.
//
// Any thread that may wait. Where it runs, a process of this one's is made by fork.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stages/result.h"

namespace nudge {

struct ConfinedProgram {
  std::vector<std::string> words;  // its path, which begins with /, and its arguments
  std::chrono::milliseconds timeout{10'000};
  uint64_t memory_bytes_max = uint64_t{512} << 20;  // of its address space
  size_t output_bytes_max = 2 << 20;
};

// Whether the program is there and this kernel can confine it. Errors: kUnreadableFile,
// kUnavailable.
Result<Nothing> CanRunConfined(const ConfinedProgram& program);

// Errors: kTooLarge (more output than may be, or more time than it has), kUnreadableFile (it ended
// otherwise than well: its input is not what it reads, or needs more memory), kUnavailable (no
// process, no memory). Whatever happens, the program is gone when the call returns.
Result<std::string> RunConfined(const ConfinedProgram& program, std::string_view input);

}  // namespace nudge
