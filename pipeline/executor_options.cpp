#include "pipeline/executor_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(ExecutorOptions& options) {
  using enum Effect;
  return Together(
      {Fields{
           {"executor.threads", Number{&options.threads, 1, 256}, "", kOperational,
            "each with a context of every model"},
           {"executor.lessons_waiting_max", Number{&options.lessons_waiting_max, 0, 1e6}, "",
            kOperational, "beyond which feedback waits until it is learnt, and slows its source"},
       },
       OptionsOf(options.adapters)});
}

}  // namespace nudge
