// All configuration keys, for those that read, describe and hash a Config: config.cpp and
// config_json.cpp, nobody else. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pipeline/config/config.h"
#include "stages/options.h"

namespace nudge::keys {

struct Section {
  std::string_view name;
  std::string_view what;
};
// In the order of files and documents.
const std::vector<Section>& Sections();

// Every key, bound to `config`: a field's slot points into it. Within a section they come in the
// order of the parts, and of a part's declarations.
Fields FieldsOf(Config& config);

inline constexpr size_t kPathBytes = 4096;

// A file's content. Throws StartError, which begins with the path: missing, a folder, unreadable,
// over `most_bytes`.
std::string ReadWhole(const std::string& path, size_t most_bytes);

std::string_view LastPart(std::string_view path);  // "rank" of "adapt.rank"

}  // namespace nudge::keys
