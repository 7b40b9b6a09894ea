// The options of a run: of its own, and of the parts that it puts together. See processor.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "pipeline/credit_limits.h"
#include "pipeline/executor_options.h"
#include "pipeline/graph_options.h"
#include "pipeline/observe/watchdog_options.h"
#include "stages/adapt_options.h"
#include "stages/index_options.h"
#include "stages/options.h"
#include "stages/prepare_options.h"
#include "stages/prompt_options.h"
#include "stages/recall_options.h"
#include "stages/respond_options.h"

namespace nudge {

struct ProcessorOptions {
  PrepareOptions prepare;
  RecallOptions recall;
  IndexOptions index;
  AdaptOptions adapt;
  PromptOptions prompt;
  RespondOptions respond;
  GraphOptions graph;
  ExecutorOptions executor;
  CreditLimits credits;
  std::string state_folder;                 // empty: no checkpoints
  std::string configuration_sha256;         // of the semantic configuration
  std::optional<int32_t> partition_count;   // of the input, where it has a number of them
  uint64_t checkpoint_every_events = 1000;  // per partition, 1..
  // After an event, in which the state has it, unless lessons hold up the cut; 0: no such limit.
  std::chrono::milliseconds checkpoint_every{0};
  bool checkpoint_at_end = true;
  // Outcomes that a restore reads back at once, to repeat the events after its state; 1..
  uint64_t read_back_bytes = 128ull << 20;
  uint32_t backup_every_cuts = 100;         // of the state, per partition; 0: no backups
  std::chrono::milliseconds drain{30'000};  // after a stop: what is not done by then is abandoned
  std::chrono::milliseconds hand_over{1'000};  // the same, of a partition that is taken away
  WatchdogOptions watchdog;                    // of Run
};

keys::Fields OptionsOf(ProcessorOptions& options);

}  // namespace nudge
