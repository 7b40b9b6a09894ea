#include <iostream>

#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"
#include "stages/log.h"

namespace nudge {

int FailWith(const Error& error, int exit_code) {
  std::cerr << "nudge: " << Printable(error.message) << "\n";
  if (!error.remedy.empty()) std::cerr << "  " << Printable(error.remedy) << "\n";
  return exit_code;
}

int ExitCodeOf(const Error& error) {
  if (error.code == Code::kFenced) return kExitFenced;
  return error.code == Code::kUnavailable ? kExitUnavailable : kExitFailed;
}

int LogFailure(const Error& error) {
  Log(LogLevel::kError, error.message + (error.remedy.empty() ? "" : ": " + error.remedy));
  return ExitCodeOf(error);
}

}  // namespace nudge
