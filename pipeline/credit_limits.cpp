#include "pipeline/credit_limits.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(CreditLimits& options) {
  using enum Effect;
  return {
      {"limits.in_flight_events", Number{&options.events, 1, 1'000'000}, "", kOperational,
       "of a partition, read and not yet committed"},
      {"limits.in_flight_bytes", Number{&options.bytes, 1 << 10, 64ll << 30}, "", kOperational,
       "of a partition, read and not yet committed; a larger event passes alone"},
  };
}

}  // namespace nudge
