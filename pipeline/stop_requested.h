// Whether somebody wants the process to end: set by SIGINT and SIGTERM
// (pipeline/commands/main.cpp), looked at by whoever goes on for long. Any thread.
#pragma once

#include <atomic>

namespace nudge {

// Processor::Run, a publisher and every loop of a command or benchmark stop cleanly once it is
// true.
extern std::atomic<bool> stop_requested;

}  // namespace nudge
