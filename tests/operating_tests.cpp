// labels: unit
// What docs/OPERATING.md and the dashboard speak of is there, and what is there they speak of.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "pipeline/commands/commands.h"
#include "pipeline/observe/run_view.h"

using namespace nudge;

namespace {

using Json = nlohmann::json;

std::string Content(const std::string& path) {
  std::ifstream file(std::filesystem::path(NUDGE_SOURCE_DIR) / path, std::ios::binary);
  BOOST_TEST_REQUIRE(file.good(), path << " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// A view in which every family has a value.
RunView Full() {
  RunView view;
  view.partitions[3].tenants = {{"acme", 2, 2}};
  for (const char* node : {"decode", "learn"}) view.nodes.push_back({node, 3, 1, .5});
  view.dead_letters[{"decode", Name(Code::kInvalidJson)}] = 2;
  view.kafka.emplace();
  view.kafka->statistics.partitions[3] = {};
  return view;
}

struct Family {
  std::string type;
  std::string help;
  std::set<std::string> labels;
};

std::map<std::string, Family> Families() {
  std::map<std::string, Family> families;
  std::istringstream lines(MetricsText(Full()));
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    static const std::regex kHead(R"(^# (HELP|TYPE) (\w+) (.*)$)");
    static const std::regex kLabel(R"re((\w+)=")re");
    if (std::regex_match(line, match, kHead)) {
      last = match[2];
      (match[1] == "TYPE" ? families[last].type : families[last].help) = match[3];
      continue;
    }
    BOOST_TEST(line.starts_with(last), line);
    for (std::sregex_iterator at(line.begin(), line.end(), kLabel), end; at != end; ++at) {
      families[last].labels.insert((*at)[1]);
    }
  }
  return families;
}

// Names of metrics in a text.
std::set<std::string> NamesIn(const std::string& text) {
  static const std::regex kName(R"(\b(nudge|process)_[a-z0-9_]+\b)");
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), kName), end; at != end; ++at) {
    names.insert(at->str());
  }
  return names;
}

// The family of a name in a query; empty if there is none.
std::string FamilyOf(const std::string& name, const std::map<std::string, Family>& families) {
  if (families.contains(name)) return name;
  for (const std::string suffix : {"_bucket", "_sum", "_count"}) {
    if (!name.ends_with(suffix)) continue;
    const auto found = families.find(name.substr(0, name.size() - suffix.size()));
    if (found != families.end() && found->second.type == "histogram") return found->first;
  }
  return "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_metric_is_in_the_guide_and_every_metric_of_the_guide_is_there) {
  const auto families = Families();
  BOOST_TEST(families.size() > 40u);
  const std::string guide = Content("docs/OPERATING.md");
  for (const auto& [name, family] : families) {
    BOOST_TEST(guide.find("| `" + name + "` | " + family.type + " |") != std::string::npos,
               name << ", a " << family.type << ", has no row in docs/OPERATING.md");
  }
  for (const std::string& name : NamesIn(guide)) {
    BOOST_TEST(FamilyOf(name, families) != "", "docs/OPERATING.md knows " << name);
  }
}

BOOST_AUTO_TEST_CASE(metrics_are_named_as_prometheus_wants_it) {
  for (const auto& [name, family] : Families()) {
    BOOST_TEST(!family.help.empty(), name);
    BOOST_TEST(name.ends_with("_total") == (family.type == "counter"), name);
    for (const char* unit : {"_ms", "_milliseconds", "_kb", "_percent"}) {
      BOOST_TEST(name.find(unit) == std::string::npos, name);
    }
    if (family.type == "histogram") BOOST_TEST(name.ends_with("_seconds"), name);
    for (const std::string& label : family.labels) {
      static const std::set<std::string> kBounded = {"partition", "node",   "type", "kind",
                                                     "stage",     "code",   "from", "le",
                                                     "version",   "tenant", "end"};
      BOOST_TEST(kBounded.contains(label), name << " has a label " << label);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_the_dashboard_asks_for_is_there) {
  const auto families = Families();
  const Json dashboard = Json::parse(Content("configs/grafana/nudge.json"));
  std::set<int> ids;
  size_t queries = 0;
  for (const Json& panel : dashboard["panels"]) {
    BOOST_TEST(ids.insert(panel["id"].get<int>()).second);
    for (const Json& target : panel["targets"]) {
      const std::string query = target["expr"];
      std::set<std::string> labels = {"instance"};  // Prometheus' own
      const auto names = NamesIn(query);
      BOOST_TEST(!names.empty(), query);
      for (const std::string& name : names) {
        const std::string family = FamilyOf(name, families);
        BOOST_TEST(family != "", query << ": there is no " << name);
        if (family != "")
          labels.insert(families.at(family).labels.begin(), families.at(family).labels.end());
      }
      static const std::regex kUsed(R"(\bby \(([^)]*)\)|(\w+)=~?\\?")");
      for (std::sregex_iterator at(query.begin(), query.end(), kUsed), end; at != end; ++at) {
        std::istringstream used((*at)[1].matched ? (*at)[1].str() : (*at)[2].str());
        for (std::string label; std::getline(used >> std::ws, label, ',');) {
          BOOST_TEST(labels.contains(label), query << ": no label " << label);
        }
      }
      ++queries;
    }
  }
  BOOST_TEST(queries >= 20u);
}

BOOST_AUTO_TEST_CASE(every_code_has_its_remedy_in_the_guide) {
  const std::string guide = Content("docs/OPERATING.md");
  std::set<std::string_view> names;
  for (size_t i = 0; i < EventMetrics::kCodes; ++i) {
    const std::string_view name = Name(static_cast<Code>(i));
    BOOST_TEST(names.insert(name).second);
    const std::regex row("\\n\\| `" + std::string(name) + "` \\| [^|]+ \\| [^|]+ \\|\\n");
    BOOST_TEST(std::regex_search(guide, row), name << " has no row in docs/OPERATING.md");
  }
}

BOOST_AUTO_TEST_CASE(every_exit_code_is_in_the_guide) {
  const std::string guide = Content("docs/OPERATING.md");
  for (const int code : {kExitDone, kExitFailed, kExitUsage, kExitFenced, kExitUnavailable,
                         kExitStuck, kExitInterrupted}) {
    BOOST_TEST(guide.find("\n| " + std::to_string(code) + " | ") != std::string::npos, code);
  }
}

BOOST_AUTO_TEST_CASE(lessons_are_counted_by_tenant_as_far_as_tenants_have_names) {
  RunView view;
  TenantView acme{"acme", 2, 2};
  acme.lessons.ended = {5, 0, 1, 2, 0, 0};
  acme.lessons.canary_drop = 0.25;
  TenantView other{"tenant-101", 1, 1};
  other.lessons.ended = {3, 0, 0, 0, 0, 1};
  other.is_named = false;
  TenantView another = other;
  another.tenant = "tenant-102";
  view.partitions[0].tenants = {acme, other, another};
  view.partitions[1].tenants = {acme};
  const std::string text = MetricsText(view);
  const auto says = [&](const std::string& line) { return text.find(line + "\n") != text.npos; };
  BOOST_TEST(says(R"(nudge_lessons_total{tenant="acme",end="learnt"} 10)"), text);
  BOOST_TEST(says(R"(nudge_lessons_total{tenant="acme",end="unfounded"} 4)"), text);
  BOOST_TEST(says(R"(nudge_lessons_total{tenant="",end="failed"} 2)"), text);
  BOOST_TEST(says(R"(nudge_lesson_canary_drop{tenant="acme"} 0.25)"), text);
  BOOST_TEST(text.find("tenant-101") == text.npos);
}
