#include "pipeline/observe/log_sink.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <string>

#include "connectors/json_writer.h"
#include "stages/log.h"
#include "stages/result.h"

namespace nudge {
namespace {

constexpr char kText[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJson[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":%v})";

spdlog::level::level_enum LevelOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

// One line for every reader, whatever the message holds.
std::string OneLine(std::string_view message) {
  std::string line;
  for (size_t i = 0; i < message.size();) {
    const size_t breaker = LineBreakerAt(message, i);
    line.push_back(breaker > 0 ? ' ' : message[i]);
    i += std::max<size_t>(breaker, 1);
  }
  return line;
}

void WriteText(LogLevel level, std::string_view message) {
  spdlog::default_logger_raw()->log(LevelOf(level), "{}", OneLine(message));
}

void WriteJson(LogLevel level, std::string_view message) {
  std::string text;
  JsonWriter(text).Text(message);
  spdlog::default_logger_raw()->log(LevelOf(level), "{}", text);
}

}  // namespace

void OpenLog(const LogOptions& options) {
  const bool json = options.format == "json";
  try {
    const auto logger = std::make_shared<spdlog::logger>(
        "nudge", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        json ? kJson : kText, spdlog::pattern_time_type::utc));
    logger->set_level(spdlog::level::from_str(options.level));
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(logger);
  } catch (const spdlog::spdlog_ex& error) {
    throw StartError(std::string("log: ") + error.what());
  }
  SetLogSink(json ? WriteJson : WriteText);
}

}  // namespace nudge
