// The same bits as halves.cpp, in place of it where ggml has no kernels for the processor, as in a
// browser.
#include <ggml.h>

#include "stages/model/adapters/adapter_parts.h"

namespace nudge {

void ToHalves(std::span<const float> values, uint16_t* halves) {
  ggml_fp32_to_fp16_row(values.data(), halves, static_cast<int64_t>(values.size()));
}
void ToFloats(std::span<const uint16_t> halves, float* values) {
  ggml_fp16_to_fp32_row(halves.data(), values, static_cast<int64_t>(halves.size()));
}

}  // namespace nudge
