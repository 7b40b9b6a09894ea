// labels: model slow
// A small world with the real model: people who correct it are heard, and the log replays.
#include <boost/test/unit_test.hpp>

#include "pipeline/simulate/simulation.h"
#include "tests/models.h"
#include "tests/simulate_world.h"

using namespace nudge;
using nudge::testing::ModelPath;
using nudge::testing::ReplayedChain;
using nudge::testing::SmallWorld;
using nudge::testing::TempFolder;
using nudge::testing::WorldOf;

namespace {

const std::string kSource = NUDGE_SOURCE_DIR;

Config ModelConfig() {
  (void)ModelPath();
  return ReadConfig(kSource + "/configs/quickstart.json");
}

}  // namespace

BOOST_AUTO_TEST_CASE(corrections_change_the_form_and_the_log_replays_on_another_number_of_threads) {
  const TempFolder folder;
  nlohmann::json json = SmallWorld();
  json["system"] = "You are a helpful assistant.";
  // No near tie, as of "The" and "La" behind the other: its answer is that of any processor.
  json["facts"] = {{{"text", "In which country is Paris?"}, {"keys", {"France"}}}};
  json["lessons"] = 16;
  json["points"] = {16};
  SimulateOptions options;
  options.folder = folder.path();
  const Result<Simulation> simulation = Simulate(WorldOf(json), ModelConfig(), options);
  BOOST_REQUIRE_MESSAGE(simulation.ok(), (simulation.ok() ? "" : simulation.error().message));
  const RunFigures& run = simulation->runs.front();
  BOOST_TEST(run.refused == 0U, run.first_refusal);
  BOOST_TEST(run.facts_known == 1U);
  BOOST_TEST(run.points.front().wanted == 0);
  BOOST_TEST(run.points.front().digest == "base");
  BOOST_TEST(run.points.back().version == 16U);
  BOOST_TEST(run.points.back().wanted > .6);
  BOOST_TEST(ReplayedChain(ModelConfig(), run.log, 1) == run.chain);
}
