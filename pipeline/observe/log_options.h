// How a live run writes its log.
#pragma once

#include <string>

namespace nudge {

struct LogOptions {
  std::string level = "info";   // or "debug", "warning", "error": what is below it is left out
  std::string format = "text";  // or "json": an object a line, with time, level and message
};

}  // namespace nudge
