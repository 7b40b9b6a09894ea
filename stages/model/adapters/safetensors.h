// Safetensors: named tensors in one buffer, the format in which PEFT folders carry an adapter.
//
// tensors -> [EncodeSafetensors] -> bytes -> [ParseSafetensors] -> views into those bytes.
// Pure functions of their arguments; any thread. The layout is that of the safetensors format:
// u64 little-endian header length, a JSON header, then the tensors' bytes without holes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/result.h"

namespace nudge {

enum class SafetensorsType : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element.
size_t ElementSize(SafetensorsType type);

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<uint64_t> shape;      // outermost first; empty for a scalar
  std::span<const std::byte> data;  // row-major, little-endian; not owned
};

struct SafetensorsFile {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsTensor> tensors;  // in the order of their bytes
};

inline constexpr size_t kMaxSafetensorsHeader = size_t{16} << 20;  // bytes
inline constexpr size_t kMaxSafetensorsRank = 8;                   // dimensions of a tensor

// The file's bytes: tensors in the given order, the header padded so that data starts at a multiple
// of 8. Equal arguments give equal bytes.
// kWrongAdapter: a name that is empty or used twice or not UTF-8, a tensor whose data is not as
// long as its shape says, or a header over kMaxSafetensorsHeader.
Result<std::string> EncodeSafetensors(std::span<const SafetensorsTensor> tensors,
                                      const std::map<std::string, std::string>& metadata);

// Views into `bytes`, which must outlive the result. Refuses with kUnreadableFile all that the
// format forbids: a header out of bounds or not a JSON object, a key given twice, an unknown type,
// a shape that does not match its bytes, tensors that overlap, leave holes or leave bytes over.
Result<SafetensorsFile> ParseSafetensors(std::string_view bytes);

}  // namespace nudge
