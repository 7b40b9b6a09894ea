// labels: unit
// Closed loops without a model: logs that replay, controls that change one thing, and a verdict
// that claims no more than they show.
#include <boost/test/unit_test.hpp>

#include <fstream>

#include "connectors/codec.h"
#include "pipeline/simulate/simulation.h"
#include "pipeline/simulate/simulation_report.h"
#include "tests/simulate_world.h"

using namespace nudge;
using nudge::testing::ReplayedChain;
using nudge::testing::SmallWorld;
using nudge::testing::TempFolder;
using nudge::testing::WorldOf;

namespace {

using Json = nlohmann::json;

const std::string kSource = NUDGE_SOURCE_DIR;

Config TemplateConfig() {
  return ReadConfig(kSource + "/configs/quickstart-template.json");
}

Simulation Simulated(const Json& world, const std::string& folder, bool controls = false,
                     uint32_t seeds = 1) {
  SimulateOptions options;
  options.folder = folder;
  options.controls = controls;
  options.seeds = seeds;
  Result<Simulation> simulation = Simulate(WorldOf(world), TemplateConfig(), options);
  BOOST_REQUIRE_MESSAGE(simulation.ok(), (simulation.ok() ? "" : simulation.error().message));
  return *std::move(simulation);
}

std::vector<Event> EventsIn(const std::string& log) {
  std::vector<Event> events;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    Result<Event> event = DecodeEvent(line);
    BOOST_REQUIRE(event.ok());
    events.push_back(*std::move(event));
  }
  return events;
}

const RunFigures& RunOf(const Simulation& simulation, const std::string& name) {
  for (const RunFigures& run : simulation.runs) {
    if (run.name == name) return run;
  }
  BOOST_FAIL(name + " is no run");
  return simulation.runs.front();
}

Json LoudWorld() {
  Json json = SmallWorld();
  json["users"].push_back({{"name", "tilo"},
                           {"share", 4},
                           {"intruder", true},
                           {"reactions", {{{"kind", "text"}, {"text", "banana"}}}}});
  return json;
}

// A simulation of two points with these shares of `both`; forms and facts stand.
Simulation Crafted(double before, double after, double frozen, double shuffled) {
  Simulation simulation;
  simulation.world = WorldOf(SmallWorld());
  simulation.world.held_out = 30;
  simulation.world.points = {0, 6};
  simulation.seeds = 2;
  simulation.controls = true;
  const auto add = [&](const std::string& name, double first, double last) {
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      RunFigures run;
      run.name = name;
      run.seed = seed;
      for (const auto& [lessons, both] :
           {std::pair(0U, first), std::pair(6U, last), std::pair(12U, last)}) {
        PointFigures point;
        point.lessons = lessons;
        point.wanted = point.both = both;
        point.right = .8;
        point.facts_kept = 1;
        point.forms = {both};
        run.points.push_back(point);
      }
      run.without_retrieval = run.points.back();
      simulation.runs.push_back(std::move(run));
    }
  };
  add("people", before, after);
  add("frozen", before, frozen);
  add("shuffled", before, shuffled);
  return simulation;
}

bool Says(const Simulation& simulation, const std::string& what) {
  for (const std::string& sentence : Verdict(simulation)) {
    if (sentence.find(what) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

// ---- Logs ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_log_replays_to_the_same_chain_at_any_number_of_threads) {
  const TempFolder folder;
  const Simulation simulation = Simulated(LoudWorld(), folder.path(), true);
  BOOST_TEST(simulation.runs.size() == 4U);
  for (const RunFigures& run : simulation.runs) {
    BOOST_TEST(run.refused == 0U, run.first_refusal);
    for (const int threads : {1, 2})
      BOOST_TEST(ReplayedChain(TemplateConfig(), run.log, threads) == run.chain);
  }
}

BOOST_AUTO_TEST_CASE(the_same_world_and_seeds_give_the_same_bytes) {
  const TempFolder folder;
  Simulation one = Simulated(LoudWorld(), folder.path() + "/one", true, 2);
  Simulation two = Simulated(LoudWorld(), folder.path() + "/two", true, 2);
  for (Simulation* simulation : {&one, &two}) {
    for (RunFigures& run : simulation->runs) run.log.clear();
  }
  BOOST_TEST(SimulationJson(one) == SimulationJson(two));
  BOOST_TEST(SimulationPage(one) == SimulationPage(two));
  BOOST_TEST(SimulationTable(one) == SimulationTable(two));
  BOOST_TEST(one.runs.front().chain != one.runs[4].chain);  // of the other seed
}

BOOST_AUTO_TEST_CASE(an_earlier_simulation_in_the_folder_is_replaced) {
  const TempFolder folder;
  const std::string first = Simulated(SmallWorld(), folder.path()).runs.front().chain;
  BOOST_TEST(Simulated(SmallWorld(), folder.path()).runs.front().chain == first);
}

BOOST_AUTO_TEST_CASE(figures_teach_nothing) {
  const TempFolder folder;
  Json json = LoudWorld();
  json["points"] = {12};
  const Simulation few = Simulated(json, folder.path() + "/few");
  json["points"] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const Simulation many = Simulated(json, folder.path() + "/many");
  BOOST_TEST(few.runs.front().points.size() == 2U);
  BOOST_TEST(many.runs.front().points.size() == 13U);
  BOOST_TEST(few.runs.front().points.back().digest == many.runs.front().points.back().digest);
  BOOST_TEST(few.runs.front().points.back().digest != "base");
}

BOOST_AUTO_TEST_CASE(feedback_comes_as_many_events_later_as_its_delay) {
  const TempFolder folder;
  Json json = SmallWorld();
  json["users"] = {{{"name", "ana"}, {"delay_events", 3}}};
  const Simulation simulation = Simulated(json, folder.path());
  std::vector<std::string> people;
  for (const Event& event : EventsIn(simulation.runs.front().log)) {
    if (event.source == "/people/ana") people.push_back(event.id);
  }
  BOOST_TEST(people.size() == 24U);
  for (const std::string lesson : {"1", "2", "12"}) {
    const auto asked = std::find(people.begin(), people.end(), "question-" + lesson);
    const auto said = std::find(people.begin(), people.end(), "feedback-" + lesson);
    BOOST_REQUIRE((said != people.end()));
    BOOST_TEST((said > asked));
    if (lesson != "12") BOOST_TEST((said - asked == 4));
  }
}

// ---- Controls -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_frozen_control_is_asked_the_same_and_learns_nothing) {
  const TempFolder folder;
  const Simulation simulation = Simulated(SmallWorld(), folder.path(), true);
  for (const PointFigures& point : RunOf(simulation, "frozen").points) {
    BOOST_TEST(point.digest == "base");
  }
  const auto people = EventsIn(RunOf(simulation, "people").log);
  const auto frozen = EventsIn(RunOf(simulation, "frozen").log);
  BOOST_TEST(frozen.size() == people.size() + 1);
  BOOST_TEST(RunOf(simulation, "people").points.back().digest != "base");
}

BOOST_AUTO_TEST_CASE(shuffled_labels_are_the_same_ones_at_other_places) {
  const TempFolder folder;
  const Simulation simulation = Simulated(SmallWorld(), folder.path(), true);
  const auto said = [&](const std::string& run) {
    std::vector<std::pair<std::string, std::string>> by_user;
    for (const Event& event : EventsIn(RunOf(simulation, run).log)) {
      const auto* feedback = std::get_if<Feedback>(&event.data);
      if (feedback != nullptr) by_user.emplace_back(event.user, feedback->correction.value_or(""));
    }
    return by_user;
  };
  auto people = said("people");
  auto shuffled = said("shuffled");
  BOOST_TEST((people != shuffled));
  std::sort(people.begin(), people.end());
  std::sort(shuffled.begin(), shuffled.end());
  BOOST_TEST((people == shuffled));
}

BOOST_AUTO_TEST_CASE(labels_that_are_all_alike_cannot_be_shuffled_and_the_run_is_not_repeated) {
  const TempFolder folder;
  Json json = SmallWorld();
  for (Json& user : json["users"]) user["reactions"] = {{{"kind", "up"}}};
  const Simulation simulation = Simulated(json, folder.path(), true);
  BOOST_TEST(RunOf(simulation, "shuffled").same_events_as_people);
  BOOST_TEST(RunOf(simulation, "shuffled").chain == RunOf(simulation, "people").chain);
}

BOOST_AUTO_TEST_CASE(without_intruders_the_others_ask_and_say_what_they_did) {
  const TempFolder folder;
  const Simulation simulation = Simulated(LoudWorld(), folder.path(), true);
  const auto others = [&](const std::string& run) {
    std::vector<std::string> ids;
    for (const Event& event : EventsIn(RunOf(simulation, run).log)) {
      if (event.source.starts_with("/people/") && event.user != "tilo") ids.push_back(event.id);
    }
    return ids;
  };
  BOOST_TEST((others("people") == others("without")));
  BOOST_TEST(!others("people").empty());
  for (const Event& event : EventsIn(RunOf(simulation, "without").log)) {
    BOOST_TEST(event.user != "tilo");
  }
  const auto& points = RunOf(simulation, "without").points;
  BOOST_TEST(points.size() == RunOf(simulation, "people").points.size());
  BOOST_TEST(points.back().lessons == 12U);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_said_before_anything_runs) {
  SimulateOptions options;
  options.folder = "/proc/nowhere";
  BOOST_CHECK_THROW((void)Simulate(WorldOf(SmallWorld()), TemplateConfig(), options), StartError);
}

BOOST_AUTO_TEST_CASE(events_over_a_limit_end_the_simulation_with_its_name) {
  const TempFolder folder;
  Config config = TemplateConfig();
  config.processor.graph.limits.query_bytes = 4;
  SimulateOptions options;
  options.folder = folder.path();
  const auto simulation = Simulate(WorldOf(SmallWorld()), config, options);
  BOOST_REQUIRE(!simulation.ok());
  BOOST_TEST(Name(simulation.error().code) == Name(Code::kTooLarge));
}

// ---- The verdict --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_verdict_claims_what_the_controls_show) {
  BOOST_TEST(Says(Crafted(0, 1, 0, .1), "A gain that the labels explain"));
  BOOST_TEST(Says(Crafted(.4, .9, .4, .88), "No gain that the labels explain"));
  BOOST_TEST(Says(Crafted(.5, .52, .5, .1), "No gain over the base model"));
  BOOST_TEST(Says(Crafted(.8, .1, .8, .1), "It got worse"));
  BOOST_TEST(Says(Crafted(0, 1, 0, .1),
                  "The second half moved nothing of it (1.00 after 6 lessons, 1.00 at the end)."));
  Simulation alone = Crafted(0, 1, 0, 0);
  std::erase_if(alone.runs, [](const RunFigures& run) { return run.name != "people"; });
  alone.controls = false;
  BOOST_TEST(Says(alone, "No control was run, so nothing is said of why"));
  BOOST_TEST(!Says(alone, "labels explain"));
}

BOOST_AUTO_TEST_CASE(what_was_lost_at_any_point_of_any_seed_is_named) {
  Simulation simulation = Crafted(0, 1, 0, 0);
  BOOST_TEST(Says(simulation, "The right fact: held at every point"));
  simulation.runs[1].points[1].right = .6;  // one seed, on the way
  BOOST_TEST(Says(simulation, "The right fact: lost. 0.80 before, in one seed down to 0.60"));
  simulation.runs[0].points[2].facts_kept = .5;
  BOOST_TEST(Says(simulation, "General facts: lost"));
  BOOST_TEST(LargestDrop(simulation, "people",
                         [](const PointFigures& point) { return point.right; }) == .8 - .6);
}

BOOST_AUTO_TEST_CASE(facts_that_the_base_never_knew_are_no_figure) {
  const TempFolder folder;
  const Simulation simulation = Simulated(SmallWorld(), folder.path());
  BOOST_TEST(simulation.runs.front().facts_known == 0U);
  BOOST_TEST(Says(simulation, "General facts: none before the first lesson"));
  const Json json = Json::parse(SimulationJson(simulation));
  BOOST_TEST(json["runs"][0]["points"][0]["facts_kept"].is_null());
}

BOOST_AUTO_TEST_CASE(an_intruder_is_measured_by_the_run_without) {
  Simulation simulation = Crafted(0, 1, 0, 0);
  simulation.world = WorldOf(LoudWorld());
  simulation.world.points = {0, 6};
  simulation.world.held_out = 30;
  for (size_t seed = 0; seed < 2; ++seed) {
    RunFigures without = simulation.runs[seed];
    without.name = "without";
    simulation.runs.push_back(without);
  }
  BOOST_TEST(Says(simulation, "The others' form stands beside tilo"));
  for (RunFigures& run : simulation.runs) {
    if (run.name == "people") run.points[1].wanted = .2;
  }
  BOOST_TEST(Says(simulation, "The others' form suffers from tilo: at worst 0.20, and 1.00"));
}

BOOST_AUTO_TEST_CASE(more_answers_make_a_smaller_margin) {
  BOOST_TEST(Margin(.5, .5, 30) > .2);
  BOOST_TEST(Margin(.5, .5, 300) < .1);
  BOOST_TEST(Margin(0, 0, 30) > 0);
}
