// `nudge simulate`: closed loops of simulated people, and what came of them.
#include <iostream>

#include "pipeline/commands/commands.h"
#include "pipeline/simulate/simulation.h"
#include "pipeline/simulate/simulation_report.h"
#include "stages/files.h"

namespace nudge {

int Simulate(const SimulateArguments& arguments) {
  Config config = ReadConfig(arguments.config_path);
  World world = ReadWorld(arguments.world_path);
  if (arguments.lessons > 0) {
    world.lessons = arguments.lessons;
    std::erase_if(world.points, [&](uint32_t point) { return point > world.lessons; });
  }
  SimulateOptions options;
  options.seeds = arguments.seeds;
  options.first_seed = arguments.first_seed;
  options.controls = arguments.controls;
  options.folder =
      arguments.out.empty() ? config.output.folder + "/simulate/" + world.name : arguments.out;
  options.on_progress = [](const std::string& line) { std::cerr << line << "\n"; };
  const Result<Simulation> simulation = Simulate(world, config, options);
  if (!simulation.ok()) {
    if (stop_requested) {
      std::cerr << "\nnudge: interrupted; the same command begins anew\n";
      return kExitInterrupted;
    }
    std::cerr << "nudge: " << simulation.error().message << "\n";
    if (!simulation.error().remedy.empty()) {
      std::cerr << "  " << simulation.error().remedy << "\n";
    }
    return kExitFailed;
  }
  const std::string page = options.folder + "/report.html";
  const std::string json = options.folder + "/simulation.json";
  std::cout << SimulationTable(*simulation) << "\n" << page << "\n" << json << "\n";
  for (const auto& [path, bytes] : {std::pair(page, SimulationPage(*simulation)),
                                    std::pair(json, SimulationJson(*simulation))}) {
    if (const Result<Nothing> written = ReplaceFile(path, bytes); !written.ok()) {
      std::cerr << "nudge: " << path << ": cannot be written: " << written.error().message << "\n";
      return kExitFailed;
    }
  }
  return kExitDone;
}

}  // namespace nudge
