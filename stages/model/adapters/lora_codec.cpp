#include "stages/model/adapters/lora_codec.h"

#include <bit>
#include <cstdint>
#include <vector>

#include "stages/hash.h"

namespace nudge {
namespace {

void AppendLittleEndian(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

std::vector<uint8_t> ShapeBytes(const LoraShape& shape) {
  std::vector<uint8_t> bytes;
  AppendLittleEndian(bytes, shape.layers);
  AppendLittleEndian(bytes, shape.rank);
  AppendLittleEndian(bytes, __builtin_bit_cast(uint32_t, shape.alpha));
  for (size_t m = 0; m < kLoraModules; ++m) {
    AppendLittleEndian(bytes, shape.in[m]);
    AppendLittleEndian(bytes, shape.out[m]);
    AppendLittleEndian(bytes, shape.enabled[m] ? 1 : 0);
  }
  return bytes;
}

}  // namespace

std::string Digest(const LoraWeights& weights) {
  static_assert(std::endian::native == std::endian::little, "values are hashed as they lie");
  Sha256Stream hash;
  const std::vector<uint8_t> shape = ShapeBytes(weights.shape);
  hash.Add(shape.data(), shape.size());
  hash.Add(weights.values.data(), weights.values.size() * sizeof(float));
  return Hex(hash.Finish());
}

void WriteShape(const LoraShape& shape, ByteWriter& out) {
  out.U32(shape.layers);
  out.U32(shape.rank);
  out.F64(static_cast<double>(shape.alpha));
  for (size_t m = 0; m < kLoraModules; ++m) {
    out.U32(shape.in[m]);
    out.U32(shape.out[m]);
    out.U8(shape.enabled[m]);
  }
}

LoraShape ReadShape(ByteReader& in) {
  LoraShape shape;
  shape.layers = in.U32();
  shape.rank = in.U32();
  shape.alpha = static_cast<float>(in.F64());
  for (size_t m = 0; m < kLoraModules; ++m) {
    shape.in[m] = in.U32();
    shape.out[m] = in.U32();
    shape.enabled[m] = in.U8() != 0;
  }
  return shape;
}

}  // namespace nudge
