// Words of receipts: what an event did, told to people. For respond.
//
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stages/events.h"

namespace nudge {

// What an event did that was there before: nothing. `first`: the event's ordinal in its partition.
std::string DuplicateReceipt(uint64_t first);
// Whether an outcome is such a receipt.
bool IsDuplicate(const Outcome& outcome);

// "1 chunk", "3 chunks".
std::string Counted(uint64_t count, const std::string& noun);

// "version 3", "the base model".
std::string Named(Version version);

// "1, 2, 3 and 7 more".
std::string Listed(const std::vector<Version>& versions);

// Why feedback teaches nothing. Requires feedback that does not.
std::string NothingToLearn(const Resolved& resolved);

// What a change of documents or prompts did. Requires an event that is one.
std::string Receipt(const Resolved& resolved, const Found& found, const Chosen& chosen);

}  // namespace nudge
