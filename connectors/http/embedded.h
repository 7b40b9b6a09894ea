// Files that are compiled into the program. Pure; any thread.
#pragma once

#include <string_view>

namespace nudge {

std::string_view OpenApiText();  // connectors/http/openapi.json

}  // namespace nudge
