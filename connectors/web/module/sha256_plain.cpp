// SHA-256 by the file that llama.cpp brings along, in place of stages/sha256.cpp: there is no
// OpenSSL in a browser.
extern "C" {
#include <sha256.h>
}

#include "stages/hash.h"

namespace nudge {

struct Sha256Stream::Context {
  sha256_t hash;
};

Sha256Stream::Sha256Stream() : context_(std::make_unique<Context>()) {
  sha256_init(&context_->hash);
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Add(const void* bytes, size_t size) {
  sha256_update(&context_->hash, static_cast<const unsigned char*>(bytes), size);
}

Sha256Digest Sha256Stream::Finish() {
  Sha256Digest digest;
  sha256_final(&context_->hash, digest.data());
  return digest;
}

Sha256Digest Sha256(std::string_view bytes) {
  Sha256Stream hash;
  hash.Add(bytes.data(), bytes.size());
  return hash.Finish();
}

Sha256Digest Sha256Parts(std::initializer_list<std::string_view> parts) {
  Sha256Stream hash;
  for (const std::string_view part : parts) {
    uint8_t length[8];
    for (size_t i = 0; i < 8; ++i) {
      length[i] = static_cast<uint8_t>(uint64_t{part.size()} >> (8 * i));
    }
    hash.Add(length, sizeof length);
    hash.Add(part.data(), part.size());
  }
  return hash.Finish();
}

}  // namespace nudge
