// SHA-256 (OpenSSL's) and a counter-based random number: the only two sources of identity and of
// chance in nudge. Pure functions, any thread.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(std::string_view bytes);
std::string Hex(const Sha256Digest& digest);    // 64 lower-case digits
Sha256Digest FromHex(std::string_view digits);  // of those that Hex wrote
std::string Sha256Hex(std::string_view bytes);

// Lower-case hex SHA-256 of a file, read in pieces. kUnreadableFile if it cannot be read to its
// end.
Result<std::string> FileSha256(const std::string& path);

// SHA-256 of bytes that come piece by piece. One thread at a time.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;

  void Add(const void* bytes, size_t size);
  Sha256Digest Finish();  // once, at the end

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// SHA-256 over the parts, each with its length in front: no two different lists collide by joining.
Sha256Digest Sha256Parts(std::initializer_list<std::string_view> parts);

// The first 8 bytes of Sha256Parts, little-endian: a seed from names.
uint64_t SeedOf(std::initializer_list<std::string_view> parts);

// SplitMix64's finaliser over seed and counter (Steele, Lea, Flood 2014): the value at `counter` of
// the stream `seed`, without any state between calls.
uint64_t RandomAt(uint64_t seed, uint64_t counter);

// [0, 1) with 53 bits.
double UniformAt(uint64_t seed, uint64_t counter);

}  // namespace nudge
