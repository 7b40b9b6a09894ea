// Another server that answers, and how long it is waited for: see remote_backend.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "stages/options.h"

namespace nudge {

struct RemoteBackendOptions {
  std::string url;       // http or https, below which /chat/completions is
  std::string model;     // as the server calls it
  std::string key_file;  // with one line, the key; empty: none
  std::chrono::milliseconds answer_timeout{120'000};  // of a try, all of it
  std::chrono::milliseconds connect_timeout{5'000};   // of those
  uint32_t retries_max = 8;
  size_t response_bytes_max = 8 << 20;  // of a reply's body, as it comes
  size_t answer_bytes_max = 0;          // of its text
};

keys::Fields OptionsOf(RemoteBackendOptions& options);

// What a field alone does not tell, each with its key in front: no URL, no model.
std::vector<std::string> WrongOptions(const RemoteBackendOptions& options);

}  // namespace nudge
