#include "pipeline/processor_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(ProcessorOptions& options) {
  using enum Effect;
  return Together(
      {OptionsOf(options.graph), OptionsOf(options.credits), OptionsOf(options.prepare),
       OptionsOf(options.recall), OptionsOf(options.index), OptionsOf(options.adapt),
       OptionsOf(options.prompt), OptionsOf(options.respond), OptionsOf(options.executor),
       Fields{
           {"checkpoint.every_events", Number{&options.checkpoint_every_events, 1, 1e9}, "",
            kOperational, "of a partition"},
           {"checkpoint.backup_every_cuts", Number{&options.backup_every_cuts, 0, 1e9}, "",
            kOperational,
            "a copy of the state, after the first cut and then after so many; 0: none"},
           {"checkpoint.at_end", Flag{&options.checkpoint_at_end}, "", kOperational,
            "also when the input ends or the process is told to stop"},
           {"executor.drain_ms", Number{&options.drain, 0, 3'600'000}, "", kOperational,
            "for unfinished work after a stop; the rest is done again next time"},
           {"kafka.hand_over_ms", Number{&options.hand_over, 0, 60'000}, "", kOperational,
            "to finish a partition that goes to another process; the rest is done there"},
       },
       OptionsOf(options.watchdog)});
}

}  // namespace nudge
