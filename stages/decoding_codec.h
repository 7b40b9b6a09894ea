// A Decoding as the stages save it. Pure functions.
#pragma once

#include "stages/events.h"
#include "stages/state.h"

namespace nudge {

inline void WriteDecoding(ByteWriter& writer, const Decoding& decoding) {
  writer.F64(decoding.temperature);
  writer.F64(decoding.top_p);
  writer.U32(decoding.top_k);
  writer.U32(decoding.max_tokens);
}

inline Decoding ReadDecoding(ByteReader& reader) {
  Decoding decoding;
  decoding.temperature = reader.F64();
  decoding.top_p = reader.F64();
  decoding.top_k = reader.U32();
  decoding.max_tokens = reader.U32();
  return decoding;
}

}  // namespace nudge
