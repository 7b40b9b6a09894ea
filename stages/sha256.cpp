// SHA-256 by OpenSSL; a build without it has a file of its own in place of this one.
#include <openssl/evp.h>

#include <memory>

#include "stages/hash.h"

namespace nudge {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// A hash to be filled. Looking the algorithm up takes longer than hashing a name, so that is done
// once, and each thread keeps one context.
class Hasher {
 public:
  Hasher() {
    static const EVP_MD* const kAlgorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
    context_ = context.get();
    ENSURE(context_ != nullptr && EVP_DigestInit_ex2(context_, kAlgorithm, nullptr) == 1);
  }
  void Add(const void* bytes, size_t size) { EVP_DigestUpdate(context_, bytes, size); }
  Sha256Digest Finish() {
    Sha256Digest digest;
    ENSURE(EVP_DigestFinal_ex(context_, digest.data(), nullptr) == 1);
    return digest;
  }

 private:
  EVP_MD_CTX* context_ = nullptr;
};

}  // namespace

Sha256Digest Sha256(std::string_view bytes) {
  Hasher hasher;
  hasher.Add(bytes.data(), bytes.size());
  return hasher.Finish();
}

struct Sha256Stream::Context {
  std::unique_ptr<EVP_MD_CTX, FreeContext> hash{EVP_MD_CTX_new()};
};

Sha256Stream::Sha256Stream() : context_(std::make_unique<Context>()) {
  ENSURE(context_->hash && EVP_DigestInit_ex(context_->hash.get(), EVP_sha256(), nullptr) == 1);
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Add(const void* bytes, size_t size) {
  ENSURE(EVP_DigestUpdate(context_->hash.get(), bytes, size) == 1);
}

Sha256Digest Sha256Stream::Finish() {
  Sha256Digest digest;
  ENSURE(EVP_DigestFinal_ex(context_->hash.get(), digest.data(), nullptr) == 1);
  return digest;
}

Sha256Digest Sha256Parts(std::initializer_list<std::string_view> parts) {
  Hasher hasher;
  for (const std::string_view part : parts) {
    uint8_t length[8];
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(part.size() >> (8 * i));
    hasher.Add(length, sizeof length);
    hasher.Add(part.data(), part.size());
  }
  return hasher.Finish();
}

}  // namespace nudge
