#include "stages/log.h"

#include <atomic>
#include <cstdio>
#include <exception>

namespace nudge {
namespace {

std::atomic<LogSink> log_sink{nullptr};

}  // namespace

void SetLogSink(LogSink sink) {
  log_sink = sink;
}

void Log(LogLevel level, std::string_view message) noexcept {
  if (const LogSink sink = log_sink) {
    try {
      return sink(level, message);
    } catch (const std::exception&) {  // no memory: the plain line needs none
    }
  }
  if (level == LogLevel::kDebug) return;
  std::fprintf(stderr, "nudge: %.*s\n", static_cast<int>(message.size()), message.data());
  std::fflush(stderr);
}

}  // namespace nudge
