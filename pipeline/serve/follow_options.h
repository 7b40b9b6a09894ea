// The server that learnt adapters are offered to, and how long it is waited for: see
// adapter_follower.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "stages/options.h"

namespace nudge {

struct FollowOptions {
  std::string server_url;    // http or https, below which /load_lora_adapter is
  std::string key_file;      // with one line, the key; empty: none
  std::string lora_folder;   // the snapshot folder, as the server sees it; empty: as this process
  std::string state_folder;  // empty: OUTPUT/follow
  uint32_t versions_per_tenant_max = 2;                // the newest
  uint32_t adapters_max = 1'000;                       // the newest, of all tenants
  std::chrono::milliseconds request_timeout{120'000};  // of a try, all of it
  std::chrono::milliseconds connect_timeout{5'000};    // of those
  uint32_t retries_max = 8;
  std::chrono::milliseconds look{30'000};  // until the server is asked again what it has
};

keys::Fields OptionsOf(FollowOptions& options);

// What a field alone does not tell, each with its key in front: a URL that is none.
std::vector<std::string> WrongOptions(const FollowOptions& options);

}  // namespace nudge
