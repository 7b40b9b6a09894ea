#include "connectors/http/http_options.h"

#include <algorithm>

namespace nudge {

using namespace keys;

Fields OptionsOf(HttpOptions& options) {
  using enum Effect;
  return {
      {"http.address", Text{&options.address, 1, 253}, "bytes", kOperational,
       "to listen at; one that others reach needs http.keys_file"},
      {"http.port", Number{&options.port, 0, 65535}, "", kOperational,
       "to listen at; 0: any that is free, which is said at the start"},
      {"http.threads", Number{&options.threads, 1, 64}, "", kOperational, "that answer requests"},
      {"http.connections_max", Number{&options.connections_max, 1, 1'000'000}, "", kOperational,
       "open at a time; further ones are answered 503"},
      {"http.keys_file", Path{&options.keys_file, Path::Base::kConfigFolder}, "", kOperational,
       "of API keys, as `nudge key add` writes it; empty: no keys, loopback only"},
      {"http.tls_certificate_file", Path{&options.tls_certificate_file, Path::Base::kConfigFolder},
       "", kOperational,
       "in PEM, with those between it and the root; read anew when it changes; empty: no TLS"},
      {"http.tls_key_file", Path{&options.tls_key_file, Path::Base::kConfigFolder}, "",
       kOperational, "of the certificate, in PEM, without a passphrase"},
      {"http.cors_origins", Text{&options.cors_origins, 0, 4096}, "bytes", kOperational,
       "ORIGIN,ORIGIN of pages elsewhere that may call from a browser"},
      {"http.header_bytes_max", Number{&options.header_bytes_max, 1 << 10, 1 << 20}, "",
       kOperational, "of a request's head; beyond it 431"},
      {"http.body_bytes_max", Number{&options.body_bytes_max, 1 << 10, 1 << 30}, "", kOperational,
       "of a request's body; beyond it 413"},
      {"http.batch_events_max", Number{&options.batch_events_max, 1, 10'000}, "", kOperational,
       "in one request"},
      {"http.messages_max", Number{&options.messages_max, 1, 100'000}, "", kOperational,
       "in one chat"},
      {"http.owners_kept_max", Number{&options.owners_kept_max, 1, 100'000'000}, "", kOperational,
       "newest events of this process whose user may see the outcome without the role read"},
      {"http.pdf_converter", Text{&options.pdf_converter, 0, 4096}, "bytes", kOperational,
       "PROGRAM ARGUMENT ... that reads a PDF and writes its text, UTF-8; runs without rights. "
       "With poppler-utils: /usr/bin/pdftotext -q -enc UTF-8 - -. Empty: PDF is refused"},
      {"http.pdf_timeout_ms", Number{&options.pdf_timeout, 100, 600'000}, "", kOperational,
       "for the converter; then the PDF is refused"},
      {"http.pdf_memory_bytes_max",
       Number{&options.pdf_memory_bytes_max, 64 << 20, uint64_t{1} << 36}, "", kOperational,
       "of the converter's address space"},
      {"http.header_timeout_ms", Number{&options.header_timeout, 10, 600'000}, "", kOperational,
       "from the first byte of a request's head to its last; then 408"},
      {"http.body_timeout_ms", Number{&options.body_timeout, 10, 3'600'000}, "", kOperational,
       "for a request's body; then 408"},
      {"http.idle_timeout_ms", Number{&options.idle_timeout, 10, 3'600'000}, "", kOperational,
       "between two requests of a connection, until it is closed"},
      {"http.write_timeout_ms", Number{&options.write_timeout, 10, 3'600'000}, "", kOperational,
       "for a client to take a piece of its answer, until it is cut off"},
      {"http.answer_timeout_ms", Number{&options.answer_timeout, 10, 3'600'000}, "", kOperational,
       "for an outcome; then 202 with the place where it will be"},
      {"http.beat_ms", Number{&options.beat, 10, 3'600'000}, "", kOperational,
       "between signs of life on a stream of news, by which clients that are gone are found"},
  };
}

std::vector<std::string> EntriesOf(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    std::string_view part = text.substr(0, end);
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
    part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
    part = part.substr(0, part.find_last_not_of(' ') + 1);
    if (!part.empty()) parts.emplace_back(part);
  }
  return parts;
}

bool IsLoopback(std::string_view address) {
  if (address == "localhost" || address == "::1") return true;
  // 127.evil.example is a name of somebody else's.
  return address.starts_with("127.") && address.find_first_not_of("0123456789.") == address.npos;
}

std::string UrlOf(const std::string& address, uint16_t port, bool has_tls) {
  const bool is_v6 = address.find(':') != std::string::npos;
  return (has_tls ? "https://" : "http://") + (is_v6 ? "[" + address + "]" : address) + ":" +
         std::to_string(port);
}

}  // namespace nudge
