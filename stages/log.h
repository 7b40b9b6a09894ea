// What nudge says to whoever operates it: one line an event, with its level.
//
//   any part -> [Log] -> standard error, or what pipeline/observe/log_sink.h made of it
//
// Any thread; a line is never mixed with another's. What is computed never depends on it. Of an
// event it names tenant and id at most, never a text.
#pragma once

#include <string_view>

namespace nudge {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void Log(LogLevel level, std::string_view message) noexcept;

// Where lines go from now on; null: plain to standard error. At start-up, before other threads.
using LogSink = void (*)(LogLevel level, std::string_view message);
void SetLogSink(LogSink sink);

}  // namespace nudge
