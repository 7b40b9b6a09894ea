// Between f32 and f16 by ggml's vectorised conversions, which round to nearest even. Without F16C
// they look values up in tables that ggml_cpu_init fills.
#include <ggml-cpu.h>

#include "stages/model/adapters/adapter_parts.h"

namespace nudge {

static void FillTablesOnce() {
  [[maybe_unused]] static const bool filled = (ggml_cpu_init(), true);
}
void ToHalves(std::span<const float> values, uint16_t* halves) {
  FillTablesOnce();
  ggml_cpu_fp32_to_fp16(values.data(), halves, static_cast<int64_t>(values.size()));
}
void ToFloats(std::span<const uint16_t> halves, float* values) {
  FillTablesOnce();
  ggml_cpu_fp16_to_fp32(halves.data(), values, static_cast<int64_t>(halves.size()));
}

}  // namespace nudge
