#include "stages/hash.h"

#include <fstream>
#include <vector>

namespace nudge {

std::string Hex(const Sha256Digest& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(64, '0');
  for (size_t i = 0; i < digest.size(); ++i) {
    hex[2 * i] = kDigits[digest[i] >> 4];
    hex[2 * i + 1] = kDigits[digest[i] & 15];
  }
  return hex;
}

Sha256Digest FromHex(std::string_view digits) {
  Sha256Digest digest{};
  ENSURE(digits.size() == 2 * digest.size());
  const auto value_of = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
  for (size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<uint8_t>(16 * value_of(digits[2 * i]) + value_of(digits[2 * i + 1]));
  }
  return digest;
}

std::string Sha256Hex(std::string_view bytes) {
  return Hex(Sha256(bytes));
}

Result<std::string> FileSha256(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Error{Code::kUnreadableFile, path + ": cannot be opened",
                 "check the path and its permissions"};
  }
  Sha256Stream hash;
  std::vector<char> piece(1 << 20);
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    hash.Add(piece.data(), static_cast<size_t>(file.gcount()));
  }
  if (!file.eof()) {
    return Error{Code::kUnreadableFile, path + ": reading it failed", "check the disk"};
  }
  return Hex(hash.Finish());
}

uint64_t SeedOf(std::initializer_list<std::string_view> parts) {
  const Sha256Digest digest = Sha256Parts(parts);
  uint64_t seed = 0;
  for (size_t i = 0; i < 8; ++i) seed |= static_cast<uint64_t>(digest[i]) << (8 * i);
  return seed;
}

uint64_t RandomAt(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

double UniformAt(uint64_t seed, uint64_t counter) {
  return static_cast<double>(RandomAt(seed, counter) >> 11) * 0x1.0p-53;
}

}  // namespace nudge
