#include "connectors/http/tls_files.h"

#include <openssl/ssl.h>
#include <sys/stat.h>

#include <utility>

namespace nudge {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

Error Wrong(const std::string& file, const error_code& error) {
  return {Code::kUnreadableFile, file + ": " + error.message(),
          "give a certificate and its key in PEM, without a passphrase"};
}

}  // namespace

TlsFiles::TlsFiles(std::string certificate_file, std::string key_file)
    : certificate_file_(std::move(certificate_file)), key_file_(std::move(key_file)) {
  read_ = seen_ = SignatureNow();
  const Result<Nothing> done = Read();
  if (!done.ok()) throw StartError("http: " + done.error().message + ": " + done.error().remedy);
}

std::optional<Result<Nothing>> TlsFiles::Look() {
  const Signature now = SignatureNow();
  const bool is_still = std::exchange(seen_, now) == now;
  if (now == read_ || !is_still) return std::nullopt;
  read_ = now;
  return Read();
}

TlsFiles::Signature TlsFiles::SignatureNow() const {
  Signature signature{};
  size_t at = 0;
  for (const std::string& file : {certificate_file_, key_file_}) {
    struct stat status {};
    if (stat(file.c_str(), &status) == 0) {
      signature[at] = status.st_ino;
      signature[at + 1] = static_cast<uint64_t>(status.st_size);
      signature[at + 2] = static_cast<uint64_t>(status.st_mtim.tv_sec);
      signature[at + 3] = static_cast<uint64_t>(status.st_mtim.tv_nsec);
    }
    at += 4;
  }
  return signature;
}

// On error the context stays as it is.
Result<Nothing> TlsFiles::Read() {
  const auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const handle = context->native_handle();
  SSL_CTX_set_min_proto_version(handle, TLS1_2_VERSION);
  error_code error;
  // OpenSSL would ask for a passphrase at the terminal.
  context->set_password_callback([](size_t, ssl::context::password_purpose) { return ""; }, error);
  context->use_certificate_chain_file(certificate_file_, error);
  if (error) return Wrong(certificate_file_, error);
  context->use_private_key_file(key_file_, ssl::context::pem, error);
  if (error) return Wrong(key_file_, error);
  if (SSL_CTX_check_private_key(handle) != 1) {
    return Error{Code::kUnreadableFile, key_file_ + " is not the key of " + certificate_file_,
                 "give the two that belong together"};
  }
  context_ = context;
  return Nothing{};
}

}  // namespace nudge
