// The end of a run that cannot go on and must not guess: a process that stops here is as if killed.
// Any thread.
#pragma once

namespace nudge {

// Ends the process with a sentence and exit code 1: what was committed stands, and the same command
// goes on. For failures that depend on the machine alone (no memory, a disk that fails): an error
// returned instead would become an outcome that a repetition of the log would not have.
[[noreturn]] void StopRun(const char* problem, const char* remedy);

}  // namespace nudge
