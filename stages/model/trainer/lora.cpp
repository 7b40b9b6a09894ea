#include "stages/model/trainer/lora.h"

namespace nudge {

namespace {

size_t Index(LoraModule module) {
  return static_cast<size_t>(module);
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

}  // namespace nudge
