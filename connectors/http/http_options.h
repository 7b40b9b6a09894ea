// Address, limits and patience of the HTTP server: see http_server.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stages/options.h"

namespace nudge {

struct HttpOptions {
  std::string address = "127.0.0.1";
  uint32_t port = 8080;  // 0: any that is free
  uint32_t threads = 1;
  uint32_t connections_max = 10'000;
  std::string keys_file;             // empty: no keys, loopback only
  std::string tls_certificate_file;  // both or none: without them no TLS
  std::string tls_key_file;
  std::string cors_origins;  // "https://shop.example,https://help.example"

  size_t header_bytes_max = 16 << 10;
  size_t body_bytes_max = 2 << 20;
  size_t batch_events_max = 100;
  size_t messages_max = 1'000;  // of a chat
  // Events that this process remembers the user of, so that a user sees the outcomes of their own.
  size_t owners_kept_max = 100'000;

  std::string pdf_converter;  // its path and arguments; empty: PDF is refused (pdf_text.h)
  std::chrono::milliseconds pdf_timeout{10'000};
  uint64_t pdf_memory_bytes_max = uint64_t{512} << 20;

  std::chrono::milliseconds header_timeout{10'000};  // from its first byte
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds idle_timeout{60'000};     // of a connection between requests
  std::chrono::milliseconds write_timeout{30'000};    // for each piece of an answer
  std::chrono::milliseconds answer_timeout{120'000};  // for an outcome; then 202
  std::chrono::milliseconds beat{15'000};             // of a stream without an end
};

keys::Fields OptionsOf(HttpOptions& options);

// What a text lists, without blanks around each and without empty ones.
std::vector<std::string> EntriesOf(std::string_view text, char separator);

// Whether the address is one that only this machine reaches.
bool IsLoopback(std::string_view address);

// "http://[::1]:8080" and the like.
std::string UrlOf(const std::string& address, uint16_t port, bool has_tls = false);

}  // namespace nudge
