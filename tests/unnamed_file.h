// The file that this process has open in a folder without a name, to look at it and to damage it.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "stages/result.h"

namespace nudge::testing {

// Requires that there is one.
inline int UnnamedFileIn(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto path = std::filesystem::read_symlink(entry.path(), gone).string();
    if (path.starts_with(folder + "/") && path.ends_with(" (deleted)")) {
      return std::atoi(entry.path().filename().c_str());
    }
  }
  ENSURE(!"an unnamed file");
  return -1;
}

inline uint64_t SizeOf(int file) {
  struct stat found {};
  ENSURE(fstat(file, &found) == 0);
  return static_cast<uint64_t>(found.st_size);
}

inline void FlipBitAt(int file, uint64_t at) {
  char byte = 0;
  ENSURE(pread(file, &byte, 1, static_cast<off_t>(at)) == 1);
  byte = static_cast<char>(byte ^ 1);
  ENSURE(pwrite(file, &byte, 1, static_cast<off_t>(at)) == 1);
}

}  // namespace nudge::testing
