// What is known of a document beside its text: names with typed values, for filter.h to look at.
//
// Plain values, any thread. Bounded by limits.metadata_entries and limits.metadata_bytes.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

namespace nudge {

// A number is a double: whole ones are exact below 2^53, -0 is 0.
using MetadataValue = std::variant<std::string, double, bool, std::vector<std::string>>;
using Metadata = std::map<std::string, MetadataValue>;

}  // namespace nudge
