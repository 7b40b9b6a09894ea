// The paths by fused multiply-adds, where a build has none: WebAssembly has no such instruction.
#include "stages/model/engine/product_kernels.h"

namespace nudge {

const ProductKernel kAvx512Products = nullptr;
const ProductKernel kAvx2Products = nullptr;
const ProductKernel kPlainProducts = nullptr;

}  // namespace nudge
