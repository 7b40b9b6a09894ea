#include "stages/model/adapters/adapter_parts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace nudge {
namespace {

constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxDimension = uint32_t{1} << 20;
constexpr size_t kMaxText = 1024;  // bytes of a text in the manifest

}  // namespace

const std::array<ModuleName, kLoraModules> kModuleNames{
    {{"attn_q", "self_attn.q_proj", "q_proj"},
     {"attn_k", "self_attn.k_proj", "k_proj"},
     {"attn_v", "self_attn.v_proj", "v_proj"},
     {"attn_output", "self_attn.o_proj", "o_proj"},
     {"ffn_gate", "mlp.gate_proj", "gate_proj"},
     {"ffn_up", "mlp.up_proj", "up_proj"},
     {"ffn_down", "mlp.down_proj", "down_proj"}}};

std::string AdapterMatrix::GgufName() const {
  return "blk." + std::to_string(layer) + "." + kModuleNames[module].gguf + ".weight" +
         (is_b ? ".lora_b" : ".lora_a");
}

std::string AdapterMatrix::PeftName() const {
  return "base_model.model.model.layers." + std::to_string(layer) + "." +
         kModuleNames[module].peft + (is_b ? ".lora_B.weight" : ".lora_A.weight");
}

std::vector<AdapterMatrix> MatricesOf(const LoraShape& shape) {
  std::vector<AdapterMatrix> matrices;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      if (!shape.enabled[m]) continue;
      const auto module = static_cast<LoraModule>(m);
      matrices.push_back({layer, m, false, shape.OffsetA(layer, module), shape.rank, shape.in[m]});
      matrices.push_back({layer, m, true, shape.OffsetB(layer, module), shape.out[m], shape.rank});
    }
  }
  return matrices;
}

Error WrongAdapter(std::string message, std::string remedy) {
  return {Code::kWrongAdapter, "adapter: " + std::move(message), std::move(remedy)};
}

std::optional<Error> CheckShape(const LoraShape& shape) {
  if (shape.layers < 1 || shape.layers > kMaxLayers) {
    return WrongAdapter(std::to_string(shape.layers) + " layers are outside 1..1024");
  }
  if (shape.rank < 1 || shape.rank > kMaxAdapterRank) {
    return WrongAdapter("rank " + std::to_string(shape.rank) + " is outside 1..4096");
  }
  if (!std::isfinite(shape.alpha) || shape.alpha <= 0) {
    return WrongAdapter("alpha " + std::to_string(shape.alpha) + " is not a finite number above 0");
  }
  bool any = false;
  for (size_t m = 0; m < kLoraModules; ++m) {
    if (!shape.enabled[m]) continue;
    any = true;
    if (std::min(shape.in[m], shape.out[m]) < 1 ||
        std::max(shape.in[m], shape.out[m]) > kMaxDimension) {
      return WrongAdapter(std::string(kModuleNames[m].gguf) + " is " +
                          std::to_string(shape.out[m]) + " x " + std::to_string(shape.in[m]) +
                          ", outside 1..1048576");
    }
  }
  if (!any) return WrongAdapter("no module is enabled");
  return std::nullopt;
}

bool IsDigest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::optional<Error> CheckManifest(const AdapterManifest& manifest) {
  const auto is_text = [](const std::string& text, size_t least) {
    return text.size() >= least && text.size() <= kMaxText && text.find('\0') == std::string::npos;
  };
  if (!is_text(manifest.tenant, 1))
    return WrongAdapter("the tenant's name is empty, too long or has a NUL");
  if (!is_text(manifest.base_architecture, 1))
    return WrongAdapter("the base's architecture is no name");
  if (!is_text(manifest.base_name, 0))
    return WrongAdapter("the base's name is too long or has a NUL");
  if (!IsDigest(manifest.digest)) return WrongAdapter("digest is not 64 hex digits");
  if (!manifest.parent_digest.empty() && manifest.parent_digest != "base" &&
      !IsDigest(manifest.parent_digest)) {
    return WrongAdapter("parent_digest is neither 64 hex digits nor \"base\" nor empty");
  }
  if (!IsDigest(manifest.base_sha256)) return WrongAdapter("base_sha256 is not 64 hex digits");
  if (manifest.merged_of.size() > kMaxMergedParts) {
    return WrongAdapter("merged of " + std::to_string(manifest.merged_of.size()) +
                        " adapters, at most " + std::to_string(kMaxMergedParts) + " are possible");
  }
  for (const MergedPart& part : manifest.merged_of) {
    if (!IsDigest(part.sha256) || !(part.weight > 0 && part.weight <= 1)) {
      return WrongAdapter("what it was merged of is no list of digests and shares above 0");
    }
  }
  return std::nullopt;
}

std::optional<Error> CheckWeights(const LoraWeights& weights) {
  if (auto error = CheckShape(weights.shape)) return error;
  if (weights.values.size() != weights.shape.Size()) {
    return WrongAdapter(std::to_string(weights.values.size()) + " values for a shape of " +
                        std::to_string(weights.shape.Size()));
  }
  return std::nullopt;
}

Error AdapterNotFinite() {
  return WrongAdapter("a value is not finite, or beyond what f16 holds (65504)",
                      "roll back to a version from before the training diverged");
}

// An exponent of ones is infinity or NaN. No early exit: the loops vectorise.
bool AllFinite(std::span<const float> values) {
  uint32_t bad = 0;
  for (float value : values) {
    bad |= (__builtin_bit_cast(uint32_t, value) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  }
  return bad == 0;
}
bool AllFinite(std::span<const uint16_t> values) {
  uint32_t bad = 0;
  for (uint16_t value : values) bad |= (value & 0x7c00u) == 0x7c00u ? 1u : 0u;
  return bad == 0;
}

bool StoreValues(AdapterPrecision precision, std::span<const float> values, std::byte* out) {
  if (precision == AdapterPrecision::kF32) {
    std::memcpy(out, values.data(), values.size_bytes());
    return AllFinite(values);
  }
  auto* halves = reinterpret_cast<uint16_t*>(out);
  ToHalves(values, halves);
  return AllFinite(std::span<const uint16_t>(halves, values.size()));
}

size_t ValueSize(AdapterPrecision precision) {
  return precision == AdapterPrecision::kF32 ? sizeof(float) : sizeof(uint16_t);
}

}  // namespace nudge
