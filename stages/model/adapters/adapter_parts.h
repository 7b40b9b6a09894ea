// What the writers and readers of adapter files share: names and places of matrices, checks of
// shapes and manifests, values in a file's precision. Private to stages/model. Pure functions, any
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stages/model/adapters/adapter_file.h"
#include "stages/model/trainer/lora.h"
#include "stages/result.h"

namespace nudge {

// Of a file: merged adapters have more than one that learns (adapt.rank).
inline constexpr uint32_t kMaxAdapterRank = 4096;

inline constexpr size_t kMaxMergedParts = 4096;

struct ModuleName {
  const char* gguf;    // "attn_q"
  const char* peft;    // "self_attn.q_proj"
  const char* target;  // "q_proj"
};
extern const std::array<ModuleName, kLoraModules> kModuleNames;

// One matrix of an adapter: A is [rank, in], B is [out, rank].
struct AdapterMatrix {
  uint32_t layer = 0;
  size_t module = 0;
  bool is_b = false;
  size_t offset = 0;  // of its first value in LoraWeights::values
  uint32_t rows = 0;
  uint32_t columns = 0;

  size_t size() const { return size_t{rows} * columns; }
  std::string GgufName() const;  // "blk.0.attn_q.weight.lora_a"
  std::string PeftName() const;  // "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
};

// All matrices, in the order of their values.
std::vector<AdapterMatrix> MatricesOf(const LoraShape& shape);

Error WrongAdapter(std::string message, std::string remedy = "");
Error AdapterNotFinite();

// Nothing if an adapter of this shape, manifest or these values may be written or read, else
// kWrongAdapter.
std::optional<Error> CheckShape(const LoraShape& shape);
std::optional<Error> CheckManifest(const AdapterManifest& manifest);
std::optional<Error> CheckWeights(const LoraWeights& weights);
bool IsDigest(std::string_view text);  // 64 lower-case hex digits

// Whether no value is infinite or NaN; of f16 as its bits.
bool AllFinite(std::span<const float> values);
bool AllFinite(std::span<const uint16_t> halves);

// Between f32 and f16, rounding to nearest even.
void ToHalves(std::span<const float> values, uint16_t* halves);
void ToFloats(std::span<const uint16_t> halves, float* values);

// Writes the values in a file's precision to `out`, which has room; false if one is not finite.
bool StoreValues(AdapterPrecision precision, std::span<const float> values, std::byte* out);
size_t ValueSize(AdapterPrecision precision);

}  // namespace nudge
