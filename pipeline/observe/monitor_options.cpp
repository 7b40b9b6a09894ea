#include "pipeline/observe/monitor_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(MonitorOptions& options) {
  using enum Effect;
  return {
      {"monitor.address", Text{&options.address, 1, 253}, "bytes", kOperational,
       "to listen at; there is no authentication, so loopback or a network of your own"},
      {"monitor.port", Number{&options.port, 0, 65535}, "", kOperational,
       "of /metrics, /healthz, /readyz and /status; 0: none"},
  };
}

}  // namespace nudge
