#include "stages/model/trainer/parallel.h"

namespace nudge {

ParallelFor SerialFor() {
  return [](int parts, const std::function<void(int)>& body) {
    for (int part = 0; part < parts; ++part) body(part);
  };
}

}  // namespace nudge
