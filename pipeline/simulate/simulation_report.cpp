#include "pipeline/simulate/simulation_report.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "pipeline/report/report_page.h"

namespace nudge {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kWorthNaming = .05;  // of a figure's beginning: a drop that the verdict names
constexpr double kOthersApart = .1;   // that an intruder may move the others' form by
constexpr int kNameWidth = 36;
constexpr int kColumnWidth = 8;

std::vector<const RunFigures*> RunsOf(const Simulation& simulation, std::string_view name) {
  std::vector<const RunFigures*> runs;
  for (const RunFigures& run : simulation.runs) {
    if (run.name == name) runs.push_back(&run);
  }
  return runs;
}

bool Has(const Simulation& simulation, std::string_view name) {
  return !RunsOf(simulation, name).empty();
}

// The mean at the last point.
double AtEnd(const Simulation& simulation, std::string_view run, const FigureOf& figure) {
  return Bands(simulation, run, figure).back().mean;
}

double Wanted(const PointFigures& point) {
  return point.wanted;
}
double Right(const PointFigures& point) {
  return point.right;
}
double Both(const PointFigures& point) {
  return point.both;
}
double Facts(const PointFigures& point) {
  return point.facts_kept;
}

uint64_t AnswersOf(const Simulation& simulation) {
  return uint64_t{simulation.world.held_out} * simulation.seeds;
}

// Whether the second share is more than the first by more than chance would have it.
bool IsMore(const Simulation& simulation, double one, double other) {
  return other - one > Margin(one, other, AnswersOf(simulation));
}

// The point whose adapter is the stale one: the last one within the first half.
size_t HalfOf(const Simulation& simulation) {
  const std::vector<uint32_t> points = PointsOf(simulation.world);
  size_t half = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i] <= simulation.world.lessons / 2) half = i;
  }
  return half;
}

std::string Intruders(const World& world) {
  std::vector<std::string> names;
  for (const WorldUser& user : world.users) {
    if (user.intruder) names.push_back(user.name);
  }
  return keys::Join(names, ", ");
}

std::string Share(double share) {
  return Fixed(share, 2);
}

// ---- The verdict --------------------------------------------------------------------------------

void JudgeLearning(const Simulation& simulation, std::vector<std::string>& said) {
  const double before = Bands(simulation, "people", Both).front().mean;
  const double after = AtEnd(simulation, "people", Both);
  const std::string moved = "The wanted form with the right fact: " + Share(before) + " before, " +
                            Share(after) + " after " + std::to_string(simulation.world.lessons) +
                            " lessons.";
  if (!Has(simulation, "frozen") || !Has(simulation, "shuffled")) {
    said.push_back(moved + " No control was run, so nothing is said of why.");
    return;
  }
  const double frozen = AtEnd(simulation, "frozen", Both);
  const double shuffled = AtEnd(simulation, "shuffled", Both);
  const std::string beside =
      " (base model " + Share(frozen) + ", shuffled labels " + Share(shuffled) + ")";
  if (IsMore(simulation, after, frozen)) {
    said.push_back("It got worse" + beside + ". " + moved);
  } else if (!IsMore(simulation, frozen, after)) {
    said.push_back("No gain over the base model" + beside + ". " + moved);
  } else if (!IsMore(simulation, shuffled, after)) {
    said.push_back("No gain that the labels explain: shuffled labels gain as much" + beside + ". " +
                   moved);
  } else {
    said.push_back("A gain that the labels explain" + beside + ". " + moved);
  }
  const double form = AtEnd(simulation, "people", Wanted);
  const double form_shuffled = AtEnd(simulation, "shuffled", Wanted);
  if (IsMore(simulation, AtEnd(simulation, "frozen", Wanted), form) &&
      !IsMore(simulation, form_shuffled, form)) {
    said.push_back("The form alone is learnt from shuffled labels too (" + Share(form_shuffled) +
                   " beside " + Share(form) + "): it does not tell which labels were right.");
  }
}

void JudgeHalf(const Simulation& simulation, std::vector<std::string>& said) {
  const size_t half = HalfOf(simulation);
  const uint32_t lessons = PointsOf(simulation.world)[half];
  if (half == 0) return;
  const double then = Bands(simulation, "people", Both)[half].mean;
  const double after = AtEnd(simulation, "people", Both);
  const std::string beside = " (" + Share(then) + " after " + std::to_string(lessons) +
                             " lessons, " + Share(after) + " at the end).";
  if (IsMore(simulation, then, after)) {
    said.push_back("The second half taught more" + beside);
  } else if (IsMore(simulation, after, then)) {
    said.push_back("The adapter of the half was better" + beside);
  } else {
    said.push_back("The second half moved nothing of it" + beside);
  }
}

void JudgeLoss(const Simulation& simulation, const std::string& name, const FigureOf& figure,
               std::vector<std::string>& said) {
  const auto bands = Bands(simulation, "people", figure);
  const double before = bands.front().mean;
  if (!(before > 0)) {
    said.push_back(name + ": none before the first lesson, so nothing could be lost.");
    return;
  }
  const double drop = LargestDrop(simulation, "people", figure);
  if (drop <= kWorthNaming * before) {
    said.push_back(name + ": held at every point, of every seed (" + Share(before) +
                   " before, largest drop " + Share(drop) + ").");
    return;
  }
  size_t worst = 0;
  for (size_t i = 0; i < bands.size(); ++i) {
    if (bands[i].least < bands[worst].least) worst = i;
  }
  said.push_back(name + ": lost. " + Share(before) + " before, in one seed down to " +
                 Share(bands[worst].least) + " after " +
                 std::to_string(PointsOf(simulation.world)[worst]) + " lessons.");
}

void JudgeIntruders(const Simulation& simulation, std::vector<std::string>& said) {
  if (!Has(simulation, "without")) return;
  const auto with = Bands(simulation, "people", Wanted);
  const auto without = Bands(simulation, "without", Wanted);
  const std::vector<uint32_t> points = PointsOf(simulation.world);
  size_t worst = 0;
  for (size_t i = 0; i < with.size(); ++i) {
    if (without[i].mean - with[i].mean > without[worst].mean - with[worst].mean) worst = i;
  }
  const bool apart = without[worst].mean - with[worst].mean > kOthersApart;
  said.push_back("The others' form " + std::string(apart ? "suffers from " : "stands beside ") +
                 Intruders(simulation.world) + ": at worst " + Share(with[worst].mean) + ", and " +
                 Share(without[worst].mean) + " in the run without, after " +
                 std::to_string(points[worst]) + " lessons.");
}

// ---- The table ----------------------------------------------------------------------------------

class Rows {
 public:
  void Head(const std::string& name, const std::vector<std::string>& columns) {
    Name(name);
    for (const std::string& column : columns) Cell(column);
    out_ << "\n";
  }
  void Row(const std::string& name, const std::vector<double>& values) {
    Name(name);
    for (const double value : values) Cell(Share(value));
    out_ << "\n";
  }
  void Line(const std::string& text) { out_ << text << "\n"; }
  std::string Take() const { return out_.str(); }

 private:
  void Name(const std::string& name) { out_ << "  " << std::left << std::setw(kNameWidth) << name; }
  void Cell(const std::string& text) { out_ << std::right << std::setw(kColumnWidth) << text; }

  std::ostringstream out_;
};

void AddCurves(const Simulation& simulation, Rows& table) {
  std::vector<std::string> columns;
  for (const uint32_t point : PointsOf(simulation.world)) columns.push_back(std::to_string(point));
  columns.emplace_back("drop");
  table.Head("after so many lessons", columns);
  const auto row = [&](const std::string& name, const FigureOf& figure) {
    std::vector<double> values;
    for (const Band& band : Bands(simulation, "people", figure)) values.push_back(band.mean);
    values.push_back(LargestDrop(simulation, "people", figure));
    table.Row(name, values);
  };
  row("in the wanted form", Wanted);
  row("the right fact, in any words", Right);
  row("the wanted form, with the right fact", Both);
  row("facts kept", Facts);
  if (simulation.world.forms.size() < 2) return;
  for (size_t i = 0; i < simulation.world.forms.size(); ++i) {
    row("in form " + simulation.world.forms[i].name,
        [i](const PointFigures& point) { return point.forms[i]; });
  }
}

void AddControls(const Simulation& simulation, Rows& table) {
  if (!simulation.controls) return;
  table.Line("");
  table.Head("at the end", {"form", "fact", "both", "facts"});
  const auto values_of = [](const std::vector<const PointFigures*>& points) {
    std::vector<double> values;
    for (const FigureOf& figure :
         {FigureOf(Wanted), FigureOf(Right), FigureOf(Both), FigureOf(Facts)}) {
      double sum = 0;
      for (const PointFigures* point : points) sum += figure(*point);
      values.push_back(sum / static_cast<double>(points.size()));
    }
    return values;
  };
  const auto row = [&](const std::string& name, std::string_view run, const auto& point_of) {
    std::vector<const PointFigures*> points;
    for (const RunFigures* one : RunsOf(simulation, run)) points.push_back(point_of(*one));
    if (!points.empty()) table.Row(name, values_of(points));
  };
  const auto last = [](const RunFigures& run) { return &run.points.back(); };
  row("as it is", "people", last);
  row("frozen base: without the adapter", "frozen", last);
  row("shuffled labels", "shuffled", last);
  const size_t half = HalfOf(simulation);
  row("stale: the adapter of lesson " + std::to_string(PointsOf(simulation.world)[half]), "people",
      [half](const RunFigures& run) { return &run.points[half]; });
  row("without retrieval", "people",
      [](const RunFigures& run) { return &run.without_retrieval.value(); });
  if (Has(simulation, "without")) {
    row("without " + Intruders(simulation.world), "without", last);
  }
}

// ---- JSON ---------------------------------------------------------------------------------------

Json PointJson(const PointFigures& point, const World& world) {
  Json forms = Json::object();
  for (size_t i = 0; i < point.forms.size(); ++i) forms[world.forms[i].name] = point.forms[i];
  return {{"lessons", point.lessons}, {"wanted_form", point.wanted},    {"right_fact", point.right},
          {"both", point.both},       {"facts_kept", point.facts_kept}, {"forms", std::move(forms)},
          {"version", point.version}, {"digest", point.digest}};
}

Json RunJson(const RunFigures& run, const World& world) {
  Json points = Json::array();
  for (const PointFigures& point : run.points) points.push_back(PointJson(point, world));
  return {{"run", run.name},
          {"seed", run.seed},
          {"facts_known", run.facts_known},
          {"points", std::move(points)},
          {"without_retrieval",
           run.without_retrieval ? PointJson(*run.without_retrieval, world) : Json()},
          {"dead_letters", run.refused},
          {"first_dead_letter", run.first_refusal},
          {"same_events_as_people", run.same_events_as_people},
          {"events", run.log},
          {"outcomes_sha256", run.chain}};
}

}  // namespace

std::vector<Band> Bands(const Simulation& simulation, std::string_view run,
                        const FigureOf& figure) {
  std::vector<Band> bands;
  const auto runs = RunsOf(simulation, run);
  if (runs.empty()) return bands;
  for (size_t i = 0; i < runs.front()->points.size(); ++i) {
    Band band{0, 1, 0};
    for (const RunFigures* one : runs) {
      const double value = figure(one->points.at(i));
      band.mean += value / static_cast<double>(runs.size());
      band.least = std::min(band.least, value);
      band.most = std::max(band.most, value);
    }
    bands.push_back(band);
  }
  return bands;
}

double LargestDrop(const Simulation& simulation, std::string_view run, const FigureOf& figure) {
  double drop = 0;
  for (const RunFigures* one : RunsOf(simulation, run)) {
    for (const PointFigures& point : one->points) {
      drop = std::max(drop, figure(one->points.front()) - figure(point));
    }
  }
  return drop;
}

double Margin(double one, double other, uint64_t answers) {
  const auto count = static_cast<double>(answers) + 2;
  const auto variance = [&](double share) {
    const double smoothed = (share * static_cast<double>(answers) + 1) / count;
    return smoothed * (1 - smoothed) / count;
  };
  return 2 * std::sqrt(variance(one) + variance(other));
}

std::vector<std::string> Verdict(const Simulation& simulation) {
  std::vector<std::string> said;
  JudgeLearning(simulation, said);
  JudgeHalf(simulation, said);
  JudgeLoss(simulation, "The right fact", Right, said);
  if (!simulation.world.facts.empty()) JudgeLoss(simulation, "General facts", Facts, said);
  JudgeIntruders(simulation, said);
  for (const RunFigures& run : simulation.runs) {
    if (run.refused == 0 || run.same_events_as_people) continue;
    said.push_back("Seed " + std::to_string(run.seed) + ", " + run.name + ": " +
                   Counted(run.refused, "event") + " ended as dead letters, the first " +
                   run.first_refusal + ".");
  }
  return said;
}

std::string SimulationTable(const Simulation& simulation) {
  const World& world = simulation.world;
  Rows table;
  table.Line(world.name + (world.about.empty() ? "" : ": " + world.about));
  table.Line(Counted(simulation.seeds, "seed") + ", " + Counted(world.lessons, "lesson") + ", " +
             Counted(world.held_out, "held-out question") + " of " +
             Counted(world.documents.size(), "document") + ", " +
             Counted(world.facts.size(), "general fact") + ", of which the base knows " +
             std::to_string(simulation.runs.front().facts_known));
  table.Line(simulation.model);
  table.Line("");
  AddCurves(simulation, table);
  AddControls(simulation, table);
  table.Line("");
  for (const std::string& sentence : Verdict(simulation)) table.Line(sentence);
  return table.Take();
}

std::string SimulationJson(const Simulation& simulation) {
  Json runs = Json::array();
  for (const RunFigures& run : simulation.runs) runs.push_back(RunJson(run, simulation.world));
  const Json json = {{"format", 1},
                     {"world", simulation.world.name},
                     {"about", simulation.world.about},
                     {"model", simulation.model},
                     {"seeds", simulation.seeds},
                     {"lessons", simulation.world.lessons},
                     {"held_out", simulation.world.held_out},
                     {"facts", simulation.world.facts.size()},
                     {"controls", simulation.controls},
                     {"runs", std::move(runs)},
                     {"verdict", Verdict(simulation)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace nudge
