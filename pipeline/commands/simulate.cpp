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
    return FailWith(simulation.error(), kExitFailed);
  }
  std::cout << SimulationTable(*simulation) << "\n";
  for (const auto& [name, bytes] : {std::pair("/report.html", SimulationPage(*simulation)),
                                    std::pair("/simulation.json", SimulationJson(*simulation))}) {
    const std::string path = options.folder + name;
    if (const Result<Nothing> written = ReplaceFile(path, bytes); !written.ok()) {
      return FailWith(
          {written.error().code, path + ": cannot be written: " + written.error().message,
           written.error().remedy},
          kExitFailed);
    }
    std::cout << path << "\n";
  }
  return kExitDone;
}

}  // namespace nudge
