#include "connectors/log/event_log_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(EventLogOptions& options) {
  using enum Effect;
  using enum Path::Base;
  return {
      {"event_log.folder", Path{&options.folder, kWorkingFolder}, "", kOperational,
       "of the events that `nudge serve` takes; needed by it"},
      {"event_log.segment_bytes_max", Number{&options.segment_bytes_max, 4096, 1ll << 34}, "",
       kOperational, "of one file: the next event begins another"},
      {"event_log.retention_bytes_max", Number{&options.retention_bytes_max, 0, 1ll << 50}, "",
       kOperational,
       "of all files: above it the oldest go, but none that a kept state goes on from; 0: all "
       "stay"},
      {"event_log.queue_bytes_max", Number{&options.queue_bytes_max, 1 << 20, 1ll << 32}, "",
       kOperational, "of events that wait for the disk: above it further ones are refused"},
      {"event_log.sync_timeout_ms", Number{&options.sync_timeout, 100, 3'600'000}, "", kOperational,
       "of a disk that does not answer, until the process ends"},
  };
}

}  // namespace nudge
