#include "stages/model/lora.h"

#include <openssl/evp.h>

#include <bit>
#include <memory>
#include <span>

#include "stages/result.h"

namespace nudge {

namespace {

size_t Index(LoraModule module) {
  return static_cast<size_t>(module);
}

void AppendLittleEndian(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

std::vector<uint8_t> ShapeBytes(const LoraShape& shape) {
  std::vector<uint8_t> bytes;
  AppendLittleEndian(bytes, shape.layers);
  AppendLittleEndian(bytes, shape.rank);
  AppendLittleEndian(bytes, std::bit_cast<uint32_t>(shape.alpha));
  for (size_t m = 0; m < kLoraModules; ++m) {
    AppendLittleEndian(bytes, shape.in[m]);
    AppendLittleEndian(bytes, shape.out[m]);
    AppendLittleEndian(bytes, shape.enabled[m] ? 1 : 0);
  }
  return bytes;
}

}  // namespace

size_t LoraShape::SizeA(LoraModule module) const {
  return enabled[Index(module)] ? size_t{rank} * in[Index(module)] : 0;
}

size_t LoraShape::SizeB(LoraModule module) const {
  return enabled[Index(module)] ? size_t{rank} * out[Index(module)] : 0;
}

size_t LoraShape::OffsetA(uint32_t layer, LoraModule module) const {
  size_t of_a_layer = 0;
  size_t before = 0;
  for (size_t m = 0; m < kLoraModules; ++m) {
    const auto other = static_cast<LoraModule>(m);
    if (m < Index(module)) before += SizeA(other) + SizeB(other);
    of_a_layer += SizeA(other) + SizeB(other);
  }
  return layer * of_a_layer + before;
}

size_t LoraShape::OffsetB(uint32_t layer, LoraModule module) const {
  return OffsetA(layer, module) + SizeA(module);
}

size_t LoraShape::Size() const {
  return OffsetA(layers, LoraModule::kQuery);
}

std::string Digest(const LoraWeights& weights) {
  static_assert(std::endian::native == std::endian::little, "values are hashed as they lie");
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  const std::vector<uint8_t> shape = ShapeBytes(weights.shape);
  const auto values = std::as_bytes(std::span(weights.values));
  std::array<uint8_t, EVP_MAX_MD_SIZE> hash{};
  unsigned int length = 0;
  ENSURE(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1 &&
         EVP_DigestUpdate(context.get(), shape.data(), shape.size()) == 1 &&
         EVP_DigestUpdate(context.get(), values.data(), values.size()) == 1 &&
         EVP_DigestFinal_ex(context.get(), hash.data(), &length) == 1);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += kDigits[hash[i] >> 4];
    text += kDigits[hash[i] & 15];
  }
  return text;
}

}  // namespace nudge
