// What a simulation came to, for people and for programs.
//
//   Simulation -> [Series, Verdict] -> table, page of HTML, JSON
//
// Pure functions, any thread. Nothing here knows a clock: the same simulation gives the same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/simulate/simulation.h"

namespace nudge {

// One figure at one point, over the seeds.
struct Band {
  double mean = 0;
  double least = 0;
  double most = 0;
};

using FigureOf = std::function<double(const PointFigures&)>;

// Of the runs of that name, a band for each point; empty where there is none.
std::vector<Band> Bands(const Simulation& simulation, std::string_view run, const FigureOf& figure);

// How far the figure fell below where it began, at the worst point of the worst seed. 0: never.
double LargestDrop(const Simulation& simulation, std::string_view run, const FigureOf& figure);

// What two shares of so many answers must differ by to count as different: twice the standard error
// of their difference, each share with one answer more of either kind.
double Margin(double one, double other, uint64_t answers);

// What can be said, one sentence each; of learning no more than the controls show.
std::vector<std::string> Verdict(const Simulation& simulation);

std::string SimulationTable(const Simulation& simulation);
std::string SimulationJson(const Simulation& simulation);
std::string SimulationPage(const Simulation& simulation);

}  // namespace nudge
