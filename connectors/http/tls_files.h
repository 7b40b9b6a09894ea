// The server's certificate: two files in PEM -> [TlsFiles] -> a context of OpenSSL's for Asio.
//
// TLS 1.2 and later. Files that change are read anew, so that a certificate can be renewed while
// the server runs; a pair that is wrong leaves the one before in use. One thread at a time.
//
// For http_server.cpp alone: it includes Boost.Asio, which stays in this folder.
#pragma once

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "stages/result.h"

namespace nudge {

class TlsFiles {
 public:
  // The certificate with those between it and the root behind it, and its key, which has no
  // passphrase. Throws StartError: they cannot be read, or do not belong together.
  TlsFiles(std::string certificate_file, std::string key_file);

  // For new connections; those that are open keep theirs.
  const std::shared_ptr<boost::asio::ssl::context>& context() const { return context_; }

  // Called now and then. Once a change of the files is one look old, so that both are written, they
  // are read: nothing where there is no change, else whether the new pair is used.
  std::optional<Result<Nothing>> Look();

 private:
  using Signature = std::array<uint64_t, 8>;  // of both files; zeros where there is none

  Signature SignatureNow() const;
  Result<Nothing> Read();

  const std::string certificate_file_;
  const std::string key_file_;
  Signature read_{};  // when they were read last, well or not
  Signature seen_{};  // at the last look
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace nudge
