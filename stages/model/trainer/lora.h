// A LoRA adapter as numbers: which modules of which layers it changes, and its A and B matrices.
//
// y = W x + (alpha / rank) B (A x); A is [rank, in], B is [out, rank], row-major, f32 (Hu et al.
// 2021). Values are immutable once shared; any thread may read them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nudge {

// The linear modules of a Llama block, in the order in which values are laid out.
enum class LoraModule : uint8_t { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
inline constexpr size_t kLoraModules = 7;

struct LoraShape {
  uint32_t layers = 0;
  uint32_t rank = 0;                         // 1..64 of one that learns, 1..4096 of a file
  float alpha = 0;                           // scale is alpha / rank
  std::array<uint32_t, kLoraModules> in{};   // columns of each module's W
  std::array<uint32_t, kLoraModules> out{};  // rows of each module's W
  std::array<bool, kLoraModules> enabled{};  // which modules carry an A and a B

  // Number of f32 values of A, of B, and where they start in LoraWeights::values:
  // for each layer, for each enabled module: A [rank, in], then B [out, rank].
  size_t SizeA(LoraModule module) const;
  size_t SizeB(LoraModule module) const;
  size_t OffsetA(uint32_t layer, LoraModule module) const;
  size_t OffsetB(uint32_t layer, LoraModule module) const;
  size_t Size() const;

  friend bool operator==(const LoraShape&, const LoraShape&) = default;
};

struct LoraWeights {
  LoraShape shape;
  std::vector<float> values;  // [shape.Size()]
};

}  // namespace nudge
