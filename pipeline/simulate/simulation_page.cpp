#include <algorithm>
#include <cmath>

#include "pipeline/report/report_page.h"
#include "pipeline/simulate/simulation_report.h"

namespace nudge {
namespace {

constexpr char kHead[] = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nudge: a simulation</title>
<style>
:root { color-scheme: light dark; --text: #1d2530; --dim: #65707e; --line: #d5dae1; --page: #fff;
  --c0: #2563a8; --c1: #65707e; --c2: #b4541a; --c3: #2d7d46; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe5ec; --dim: #93a0af; --line: #39424e;
  --page: #14181d; --c0: #6fa8e6; --c1: #93a0af; --c2: #e69560; --c3: #6fc38a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
pre { overflow-x: auto; font-size: .8rem; } code { font-size: .85rem; overflow-wrap: anywhere; }
.dim { color: var(--dim); }
.charts { display: grid; gap: 1.5rem 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font-size: 12px; } svg .axis { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
svg polygon { opacity: .18; stroke: none; }
</style>
</head>
<body>
)html";

struct Shown {
  std::string_view run;
  std::string_view name;
};
constexpr Shown kShown[] = {{"people", "as it is"},
                            {"frozen", "frozen base"},
                            {"shuffled", "shuffled labels"},
                            {"without", "without intruders"}};

std::string Paragraph(std::string_view text) {
  return "<p>" + EscapeHtml(text) + "</p>\n";
}

std::string Colour(size_t number) {
  return "var(--c" + std::to_string(number) + ")";
}

// Maps lessons and shares to a drawing of 520 x 220. Points stand at even distances: they double.
struct Frame {
  size_t points;

  std::string At(size_t point, double share) const {
    return Fixed(X(point), 1) + "," + Fixed(Y(share), 1) + " ";
  }
  double X(size_t point) const {
    constexpr double kLeft = 46, kRight = 500;
    const double steps = std::max(1.0, static_cast<double>(points) - 1);
    return kLeft + (kRight - kLeft) * static_cast<double>(point) / steps;
  }
  static double Y(double share) {
    constexpr double kTop = 10, kBottom = 195;
    return kBottom - (kBottom - kTop) * share;
  }
};

// The seeds' band, and the mean in it.
std::string Curve(const std::vector<Band>& bands, const Frame& frame, size_t colour) {
  std::string most, least, mean;
  for (size_t i = 0; i < bands.size(); ++i) {
    most += frame.At(i, bands[i].most);
    least = frame.At(i, bands[i].least) + least;
    mean += frame.At(i, bands[i].mean);
  }
  return "<polygon style=\"fill:" + Colour(colour) + "\" points=\"" + most + least + "\"/>\n" +
         "<polyline style=\"stroke:" + Colour(colour) + "\" points=\"" + mean + "\"/>\n";
}

std::string Chart(const Simulation& simulation, std::string_view title, const FigureOf& figure) {
  const std::vector<uint32_t> points = PointsOf(simulation.world);
  const Frame frame{points.size()};
  std::string svg = "<figure><figcaption>" + EscapeHtml(title) +
                    "</figcaption>\n<svg viewBox=\"0 0 520 220\" role=\"img\" aria-label=\"" +
                    EscapeHtml(title) + "\">\n";
  for (const double share : {0.0, .5, 1.0}) {
    const std::string y = Fixed(Frame::Y(share), 1);
    svg += "<line class=\"axis\" x1=\"46\" x2=\"500\" y1=\"" + y + "\" y2=\"" + y + "\"/>";
    svg += "<text x=\"40\" y=\"" + y + "\" text-anchor=\"end\" dominant-baseline=\"middle\">" +
           Fixed(share, 2) + "</text>\n";
  }
  for (size_t i = 0; i < points.size(); ++i) {
    svg += "<text x=\"" + Fixed(frame.X(i), 1) + "\" y=\"212\" text-anchor=\"middle\">" +
           std::to_string(points[i]) + "</text>\n";
  }
  for (size_t i = std::size(kShown); i-- > 0;) {  // what counts on top
    const auto bands = Bands(simulation, kShown[i].run, figure);
    const bool is_known = std::all_of(bands.begin(), bands.end(),
                                      [](const Band& band) { return std::isfinite(band.mean); });
    if (!bands.empty() && is_known) svg += Curve(bands, frame, i);
  }
  return svg + "</svg></figure>\n";
}

std::string Charts(const Simulation& simulation) {
  std::string html =
      "<h2>After so many lessons</h2>\n<p class=\"dim\">Line: mean over the seeds. "
      "Band: the least and the most of them.";
  for (size_t i = 0; i < std::size(kShown); ++i) {
    if (Bands(simulation, kShown[i].run, [](const PointFigures&) { return 0; }).empty()) continue;
    html += " <span style=\"color:" + Colour(i) + "\">&#9632; " + EscapeHtml(kShown[i].name) +
            "</span>";
  }
  html += "</p>\n<div class=\"charts\">\n";
  html += Chart(simulation, "In the wanted form", [](const auto& point) { return point.wanted; });
  html += Chart(simulation, "The right fact, in any words",
                [](const auto& point) { return point.right; });
  html += Chart(simulation, "The wanted form, with the right fact",
                [](const auto& point) { return point.both; });
  html += Chart(simulation, "General facts kept, of those that the base knows",
                [](const auto& point) { return point.facts_kept; });
  const auto& forms = simulation.world.forms;
  for (size_t i = 0; forms.size() > 1 && i < forms.size(); ++i) {
    html += Chart(simulation, "In form " + forms[i].name,
                  [i](const auto& point) { return point.forms[i]; });
  }
  return html + "</div>\n";
}

std::string Logs(const Simulation& simulation) {
  std::string html = "<h2>What repeats</h2>\n" +
                     Paragraph(
                         "Each log, replayed under the same configuration, gives the same "
                         "outcomes.");
  for (const RunFigures& run : simulation.runs) {
    html += "<p>seed " + std::to_string(run.seed) + ", " + EscapeHtml(run.name) + ": <code>" +
            EscapeHtml(run.log) + " outcomes sha256 " + run.chain + "</code></p>\n";
  }
  return html;
}

}  // namespace

std::string SimulationPage(const Simulation& simulation) {
  std::string html = kHead;
  html += "<h1>" + EscapeHtml(simulation.world.name) + "</h1>\n";
  if (!simulation.world.about.empty()) html += Paragraph(simulation.world.about);
  html += "<h2>What it came to</h2>\n";
  for (const std::string& sentence : Verdict(simulation)) html += Paragraph(sentence);
  html += Charts(simulation);
  html += "<h2>In figures</h2>\n<pre>" + EscapeHtml(SimulationTable(simulation)) + "</pre>\n";
  html += Logs(simulation);
  return html + "</body>\n</html>\n";
}

}  // namespace nudge
