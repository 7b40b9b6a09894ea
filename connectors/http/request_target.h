// A request's target taken apart: "/a%2Fb?c=d%20e" -> path "/a%2Fb", query c: "d e".
//
// The path stays as it is, so that a slash inside of a name is none between names. Pure; any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "connectors/http/exchange.h"

namespace nudge {

// %XX as the byte that it says; where that is none it stays.
std::string PercentDecoded(std::string_view text);

void ReadTarget(std::string_view target, HttpRequest& request);

}  // namespace nudge
