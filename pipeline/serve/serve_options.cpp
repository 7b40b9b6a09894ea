#include "pipeline/serve/serve_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(ServeOptions& options) {
  using enum Effect;
  return {
      {"serve.in_flight_max", Number{&options.in_flight_max, 1, 10'000'000}, "events", kOperational,
       "taken and without an outcome yet: above it further ones are refused"},
      {"serve.outcomes_kept_bytes_max",
       Number{&options.outcomes_kept_bytes_max, 1 << 20, 1ll << 40}, "", kOperational,
       "of the newest outcomes, kept in memory: those that can be asked for by id"},
      {"serve.snapshot_news_max", Number{&options.snapshot_news_max, 1, 10'000'000}, "",
       kOperational, "newest adapter snapshots that a stream of news can go on from"},
      {"serve.checkpoint_ms", Number{&options.checkpoint, 0, 3'600'000}, "", kOperational,
       "after an event until the state has it, and its lessons can be seen; 0: only as checkpoint "
       "says"},
  };
}

}  // namespace nudge
