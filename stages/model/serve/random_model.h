// A model of a known shape with random weights, as a file: to measure what a shape costs where
// nobody has its weights. It answers nonsense: its text has a token for each byte.
//
// Any thread; no shared state.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "stages/result.h"

namespace nudge {

std::vector<std::string> RandomModelShapes();  // "smollm2-135m", ...

// Writes the GGUF file, in bf16: 3.4 GB of the largest shape, written as it is made. The same
// arguments give the same bytes. `layers`: of the shape's first; 0: all. kUnreadableFile: it cannot
// be written, or nobody knows the shape.
Result<Nothing> WriteRandomModel(const std::string& path, std::string_view shape, size_t layers);

}  // namespace nudge
