// The graph's threads, and the options of the nodes that are its own: see graph.h.
#pragma once

#include <functional>

#include "connectors/command_options.h"
#include "connectors/event_limits.h"
#include "pipeline/emit_options.h"
#include "stages/options.h"

namespace nudge {

struct GraphOptions {
  int threads = 2;  // 1..256, beside those of the executor
  EventLimits limits;
  CommandOptions commands;
  EmitOptions emit;
  bool embed = true;                     // the backend has an embedder
  bool imports = true;                   // adapters are read: learning is on
  std::function<void()> before_prepare;  // tests: a seeded delay; may be empty
};

keys::Fields OptionsOf(GraphOptions& options);

}  // namespace nudge
