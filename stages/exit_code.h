// How the process ends: the numbers that supervisors and scripts read. Plain values.
#pragma once

namespace nudge {

// Documented in docs/OPERATING.md. Never change what a number means.
enum ExitCode : int {
  kExitDone = 0,
  kExitFailed = 1,         // the run stopped: what was committed stands, and a later run goes on
  kExitUsage = 2,          // bad command line, configuration or input files: nothing was done
  kExitFenced = 3,         // another process has this one's place: it goes on, this one must not
  kExitUnavailable = 4,    // brokers do not answer or refuse: the same command goes on later
  kExitStuck = 5,          // a call into a library did not return: the same command goes on
  kExitInterrupted = 130,  // stopped by a signal, cleanly: the same command goes on
};

}  // namespace nudge
