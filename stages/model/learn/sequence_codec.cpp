#include "stages/model/learn/sequence_codec.h"

#include <utility>

namespace nudge {

void WriteSequence(const std::optional<TrainSequence>& sequence, ByteWriter& out) {
  out.U8(sequence.has_value());
  if (!sequence) return;
  out.U64(sequence->tokens.size());
  for (const int32_t token : sequence->tokens) out.U32(static_cast<uint32_t>(token));
  out.U64(sequence->completion_begin);
  out.F64(static_cast<double>(sequence->weight));
  out.U8(sequence->base_log_probability.has_value());
  out.F64(sequence->base_log_probability.value_or(0));
}

std::optional<TrainSequence> ReadSequence(Objective objective, ByteReader& in) {
  if (in.U8() == 0) return std::nullopt;
  TrainSequence sequence;
  sequence.objective = objective;
  const uint64_t tokens = in.U64();
  for (uint64_t i = 0; i < tokens && !in.failed(); ++i) {
    sequence.tokens.push_back(static_cast<int32_t>(in.U32()));
  }
  sequence.completion_begin = in.U64();
  sequence.weight = static_cast<float>(in.F64());
  const bool known = in.U8() != 0;
  const double base = in.F64();
  if (known) sequence.base_log_probability = base;
  return sequence;
}

}  // namespace nudge
