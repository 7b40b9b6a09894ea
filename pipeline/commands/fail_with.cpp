#include <iostream>

#include "pipeline/commands/commands.h"
#include "pipeline/observe/printable.h"

namespace nudge {

int FailWith(const Error& error, int exit_code) {
  std::cerr << "nudge: " << Printable(error.message) << "\n";
  if (!error.remedy.empty()) std::cerr << "  " << Printable(error.remedy) << "\n";
  return exit_code;
}

}  // namespace nudge
