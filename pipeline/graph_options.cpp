#include "pipeline/graph_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(GraphOptions& options) {
  using enum Effect;
  return Together({Fields{
                       {"graph.threads", Number{&options.threads, 1, 256}, "", kOperational,
                        "beside those of the executor"},
                   },
                   OptionsOf(options.limits), OptionsOf(options.commands),
                   OptionsOf(options.emit)});
}

}  // namespace nudge
