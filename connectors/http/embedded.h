// Files that are compiled into the program. Pure; any thread.
#pragma once

#include <string_view>

namespace nudge {

std::string_view OpenApiText();    // connectors/http/openapi.json
std::string_view PageHtml();       // connectors/web/index.html
std::string_view PageScript();     // connectors/web/page.js
std::string_view LessonsScript();  // connectors/web/lessons.js
std::string_view PageStyle();      // connectors/web/page.css

}  // namespace nudge
