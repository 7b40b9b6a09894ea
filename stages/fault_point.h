// Places at which a test lets the process die, to prove that what comes back is whole.
//
// NUDGE_DIE_AT=PLACE:N in the environment ends the process by SIGKILL, as a crash would, when it
// comes by PLACE for the Nth time (1, 2, ...). Without it a place costs one load. Any thread.
#pragma once

#include <string_view>

namespace nudge {

// Every place of a run, in the order of an event's way; tests/kafka_run_tests.cpp dies at each.
inline constexpr std::string_view kFaultPoints[] = {"restore",
                                                    "replay",
                                                    "generation",
                                                    "training",
                                                    "commit-before-begin",
                                                    "commit-produced",
                                                    "commit-offsets-sent",
                                                    "commit-committed",
                                                    "checkpoint-before",
                                                    "checkpoint-inside",
                                                    "checkpoint-after",
                                                    "revoke"};

// Those of the embedded log.
inline constexpr std::string_view kLogFaultPoints[] = {"log-written", "log-synced"};

// Of taking what was forgotten out of it and out of the outcomes.
inline constexpr std::string_view kEraseFaultPoints[] = {"erase-begun", "erase-log",
                                                         "erase-outcomes", "erase-done"};

void FaultPoint(std::string_view place);

}  // namespace nudge
