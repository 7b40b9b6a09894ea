// A world lived through: for each seed the people's run, and the runs that it is compared with.
//
//   World, Config -> [Simulate] -> Simulation -> table, page, JSON (simulation_report.h)
//
// The controls are runs of the same events with one thing changed, so each log replays under the
// same configuration:
//   frozen    the adapter is frozen before anybody asks: the base model, with the same documents
//   shuffled  each user's feedback is dealt out anew among the answers that this user spoke of
//   without   the people again, but intruders never were; others ask what they asked then
// The adapter of the half needs no run: documents and prompts stay, so what it would answer at the
// end is what it answered then.
//
// Held-out questions are asked by events of the log: a replay repeats their answers, and they take
// the way that every question takes. Nothing is learnt from a question without feedback. General
// facts are asked beside the log: no event can ask a tenant that has documents without them.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/config/config.h"
#include "pipeline/simulate/people.h"
#include "pipeline/simulate/world.h"
#include "stages/result.h"

namespace nudge {

// Shares of the held-out questions, or of the facts.
struct PointFigures {
  uint32_t lessons = 0;
  double wanted = 0;  // in the form that is wanted then
  double right = 0;   // with the right fact, in any words
  double both = 0;
  // Of those that the base answers right; not a number where there are none.
  double facts_kept = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> forms;  // in each form, in the world's order
  uint32_t version = 0;
  std::string digest;  // of the adapter; "base" for version 0
};

struct RunFigures {
  std::string name;  // people, frozen, shuffled, without
  uint64_t seed = 0;
  std::vector<PointFigures> points;
  uint32_t facts_known = 0;  // by the base
  // At the end, asked without passages; of the people's run with controls.
  std::optional<PointFigures> without_retrieval;
  uint64_t refused = 0;  // events that ended as dead letters
  std::string first_refusal;
  std::string log;                     // its events.jsonl
  std::string chain;                   // of the outcomes, hex
  bool same_events_as_people = false;  // the log would be the same: figures are those of people
};

struct Simulation {
  World world;
  uint32_t seeds = 0;
  bool controls = false;
  std::string model;  // for people
  std::vector<RunFigures> runs;
};

struct SimulateOptions {
  uint32_t seeds = 1;       // this many, one after the other,
  uint32_t first_seed = 1;  // from this one
  bool controls = false;
  std::string folder;
  std::function<void(const std::string&)> on_progress;  // a line for people; may be empty
};

// Throws StartError where a run cannot begin. An error of a run ends all.
Result<Simulation> Simulate(const World& world, const Config& config,
                            const SimulateOptions& options);

}  // namespace nudge
