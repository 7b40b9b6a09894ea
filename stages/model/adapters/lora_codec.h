// An adapter's name and its form in a saved state: LoraWeights -> digest, bytes. Pure functions.
#pragma once

#include <string>

#include "stages/model/trainer/lora.h"
#include "stages/state.h"

namespace nudge {

// Lower-case hex SHA-256 of the shape and the values' bytes: the adapter's name everywhere.
std::string Digest(const LoraWeights& weights);

void WriteShape(const LoraShape& shape, ByteWriter& out);
LoraShape ReadShape(ByteReader& in);  // of bytes that ended early: check in.complete()

}  // namespace nudge
