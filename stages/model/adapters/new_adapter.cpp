#include "stages/model/adapters/new_adapter.h"

#include <cmath>

#include "stages/hash.h"

namespace nudge {

LoraWeights NewAdapter(const LoraShape& shape, uint64_t seed) {
  LoraWeights initial{shape, std::vector<float>(shape.Size())};
  const uint64_t stream = RandomAt(seed, 0);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (size_t m = 0; m < kLoraModules; ++m) {
      const auto module = static_cast<LoraModule>(m);
      const double bound = 1 / std::sqrt(static_cast<double>(shape.in[m]));
      const size_t begin = shape.OffsetA(layer, module);
      for (size_t i = begin; i < begin + shape.SizeA(module); ++i) {
        initial.values[i] = static_cast<float>(bound * (2 * UniformAt(stream, i) - 1));
      }
    }
  }
  return initial;
}

float PlainAlpha(double alpha, uint32_t rank, bool root_of_rank) {
  return static_cast<float>(root_of_rank ? alpha * std::sqrt(static_cast<double>(rank)) : alpha);
}

}  // namespace nudge
