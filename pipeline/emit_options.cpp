#include "pipeline/emit_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(EmitOptions& options) {
  using enum Effect;
  return {
      {"limits.dead_letter_bytes", Number{&options.dead_letter_bytes, 0, 1 << 20}, "", kSemantic,
       "of a refused event that its dead letter keeps"},
      {"limits.outcome_bytes", Number{&options.outcome_bytes, 1 << 17, 8e6}, "", kSemantic,
       "of an outcome; a dead letter stands in the place of a larger one. At most "
       "kafka.message_bytes"},
  };
}

}  // namespace nudge
