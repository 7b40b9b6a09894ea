// A file of keys, a line each, read at the start: bytes -> lines -> whose keys they are.
//
// For command_keys.cpp and http/keys.cpp, which say what a line holds.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

// Calls `take` with each line that is not blank; it keeps the key, and says its id.
// Throws StartError, which names the option (`http.keys_file`) or FILE:LINE: a file that cannot be
// read or has more than 16 MiB, a line that `take` refuses, an id that is given twice, no key at
// all (then `remedy`: "make one by nudge key add").
void ReadKeysFile(std::string_view option, const std::string& path, std::string_view remedy,
                  const std::function<Result<std::string>(std::string_view line)>& take);

}  // namespace nudge
