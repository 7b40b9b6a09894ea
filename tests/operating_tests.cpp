// labels: unit
// What docs/OPERATING.md and the dashboard speak of is there, and what is there they speak of; and
// what packaging/compose starts together fits together.
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
#include "tests/run_command.h"
#include "tests/temp_folder.h"

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
  view.http = HttpCounts{.routes = {{"POST /v1/events", {1, 0, 0, 0}}}};
  return view;
}

struct Family {
  std::string type;
  std::string help;
  std::set<std::string> labels;
};

std::map<std::string, Family> Families() {
  std::map<std::string, Family> families;
  GatewayView gateway;
  gateway.http = *Full().http;
  std::istringstream lines(MetricsText(Full()) + MetricsText(gateway));
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
      static const std::set<std::string> kBounded = {
          "partition", "node",    "type",   "kind", "stage", "code",  "from",
          "le",        "version", "tenant", "end",  "route", "status"};
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

// ---- packaging/compose --------------------------------------------------------------------------

namespace {

constexpr char kCompose[] = "packaging/compose/";

// The file as compose reads it: YAML with its anchors and merges.
Json Compose() {
  const auto [status, said] = nudge::testing::RunCommand(
      "/usr/bin/python3 -c 'import json, sys, yaml; "
      "print(json.dumps(yaml.safe_load(open(sys.argv[1]"
      "))))' " +
      std::string(NUDGE_SOURCE_DIR) + "/" + kCompose + "compose.yaml");
  BOOST_TEST_REQUIRE(status == 0, said);
  return Json::parse(said);
}

// Where "FROM:TO:ro" mounts what, by the place in the container.
std::map<std::string, std::string> MountsOf(const Json& service) {
  std::map<std::string, std::string> mounts;
  for (const std::string mount : service.value("volumes", Json::array())) {
    const size_t colon = mount.find(':');
    mounts[mount.substr(colon + 1, mount.find(':', colon + 1) - colon - 1)] =
        mount.substr(0, colon);
  }
  return mounts;
}

// What `nudge check` says of a configuration of a container, with what is mounted and installed
// there in a folder of ours: the SHA-256 of its semantic part.
std::string Checked(Json config, const std::string& folder) {
  for (const char* model : {"language_model", "embedder"}) {
    const std::filesystem::path path = config["model"][model].get<std::string>();
    BOOST_TEST(path.parent_path() == "/models");
    config["model"][model] = folder + "/" + path.filename().string();
    std::ofstream(folder + "/" + path.filename().string());
  }
  BOOST_TEST(config["adapt"]["anchors_path"] == "/usr/share/nudge/anchors.txt");
  config["adapt"]["anchors_path"] =
      std::filesystem::absolute(NUDGE_SOURCE_DIR "/configs/quickstart/anchors.txt");
  if (config.contains("http")) {
    BOOST_TEST(config["http"]["keys_file"] == "/etc/nudge/keys.jsonl");
    config["http"]["keys_file"] = folder + "/keys.jsonl";
    std::ofstream(folder + "/keys.jsonl");
  }
  std::ofstream(folder + "/config.json") << config;
  const auto [status, said] =
      nudge::testing::RunCommand(std::string(NUDGE_BINARY) + " check " + folder + "/config.json");
  BOOST_TEST(status == 0, said);
  std::smatch match;
  BOOST_TEST_REQUIRE(std::regex_search(said, match, std::regex("sha256 ([0-9a-f]{64})")), said);
  return match[1];
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_compose_starts_fits_together) {
  const nudge::testing::TempFolder folder;
  const Json compose = Compose();
  const Json& broker = compose["services"]["kafka"]["environment"];
  BOOST_TEST(broker["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092");
  std::set<std::string> semantics, instances, host_ports;
  std::map<std::string, int> commands;
  for (const auto& [name, service] : compose["services"].items()) {
    const auto mounts = MountsOf(service);
    for (const auto& [to, from] : mounts) {
      BOOST_TEST((from.starts_with("./") || compose["volumes"].contains(from)), from);
    }
    if (name == "kafka") continue;
    BOOST_TEST(service["depends_on"].contains("kafka"));
    const std::string command = service["command"][0];
    const std::string path = service["command"][1];
    BOOST_TEST_REQUIRE(mounts.contains(path), name << " does not mount " << path);
    const Json config = Json::parse(Content(kCompose + mounts.at(path)));
    BOOST_TEST(config["kafka"]["brokers"] == "kafka:9092");
    semantics.insert(Checked(config, folder.path()));
    ++commands[command];
    if (command == "run") {
      BOOST_TEST(instances.insert(config["kafka"]["instance_id"]).second);
      BOOST_TEST(config["output"]["folder"].get<std::string>().starts_with("/var/lib/nudge/"));
      BOOST_TEST(mounts.contains("/var/lib/nudge"));
      BOOST_TEST(mounts.contains("/models"));
      continue;
    }
    const std::string port = service["ports"][0];
    const std::string inside = ":" + std::to_string(config["http"]["port"].get<int>());
    BOOST_TEST(port.starts_with("127.0.0.1:"));
    BOOST_TEST(port.ends_with(inside), port);
    BOOST_TEST(host_ports.insert(port).second);
    BOOST_TEST(config["http"]["address"] == "0.0.0.0");
    BOOST_TEST(mounts.contains("/etc/nudge/keys.jsonl"));
  }
  BOOST_TEST((commands == std::map<std::string, int>{{"gateway", 2}, {"run", 2}}));
  BOOST_TEST(semantics.size() == 1U);  // one configuration in all that changes an outcome
}

// Each says that its configuration is not on this machine, and nothing of its arguments.
BOOST_AUTO_TEST_CASE(what_compose_tells_nudge_to_do_it_can) {
  BOOST_TEST(Content("packaging/Containerfile").find("ENTRYPOINT [\"/usr/bin/nudge\"]") !=
             std::string::npos);
  const Json compose = Compose();
  for (const auto& [name, service] : compose["services"].items()) {
    if (name == "kafka") continue;
    std::string line = NUDGE_BINARY;
    for (const std::string word : service["command"]) line += " " + word;
    const std::string path = service["command"][1];
    const auto [status, said] = nudge::testing::RunCommand(line);
    BOOST_TEST(WEXITSTATUS(status) == kExitUsage, said);
    BOOST_TEST(said.find(path + ": no such file") != std::string::npos, said);
  }
}
