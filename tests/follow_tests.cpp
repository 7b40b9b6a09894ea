// labels: unit
// What is learnt, offered to a server that takes adapters: a stand-in for vLLM (lora_stand_in.h),
// since none runs here.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "connectors/codec.h"
#include "pipeline/serve/adapter_follower.h"
#include "stages/exit_code.h"
#include "stages/model/remote/lora_server.h"
#include "tests/lora_stand_in.h"
#include "tests/run_command.h"
#include "tests/snapshot_sample.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;
using Names = std::set<std::string>;
using Told = std::vector<std::string>;
using std::chrono::milliseconds;

// An output folder as a run leaves it, whose run goes on as the test says.
class Output {
 public:
  Output() {
    fs::create_directories(path());
    std::ofstream(path() + "/outcomes.jsonl");
  }

  std::string path() const { return folder_.path() + "/out"; }
  std::string FolderOf(const SnapshotRef& snapshot) const {
    return path() + "/snapshots/" + snapshot.uri;
  }

  // A version, its snapshot and the receipt that names it.
  SnapshotRef Publish(const std::string& tenant, uint32_t version) {
    const SnapshotRef snapshot = WriteSample(path() + "/snapshots", tenant, version, version);
    Say(tenant, {snapshot});
    return snapshot;
  }
  void Say(const std::string& tenant, std::vector<SnapshotRef> snapshots) {
    Outcome outcome{tenant,
                    "/test",
                    "f-" + std::to_string(offset_),
                    "nudge.feedback",
                    Applied{"learnt", {}, {}},
                    std::move(snapshots)};
    std::string line;
    EncodeOutcome(outcome, {.offset = offset_++}, line);
    std::ofstream(path() + "/outcomes.jsonl", std::ios::app) << line << "\n";
  }

 private:
  const TempFolder folder_;
  int64_t offset_ = 0;
};

std::string NameOf(const std::string& tenant, const SnapshotRef& snapshot) {
  return tenant + "-" + std::to_string(snapshot.version) + "-" + snapshot.digest.substr(0, 12);
}

AdapterFollowerOptions OptionsFor(const Output& output, const std::string& url) {
  return {.follow = {.server_url = url,
                     .lora_folder = output.path() + "/snapshots",
                     .state_folder = output.path() + "/follow",
                     .versions_per_tenant_max = 1,
                     .retries_max = 0,
                     .look = milliseconds(100)},
          .snapshot_folder = output.path() + "/snapshots",
          .outcomes_path = output.path() + "/outcomes.jsonl",
          .kafka = {}};
}

// A follower that runs on a thread of its own until this ends.
class Following {
 public:
  explicit Following(const AdapterFollowerOptions& options)
      : follower_(options, {[](const std::string&) {},
                            [this](const std::string& line) {
                              const MutexLock lock(mutex_);
                              trouble_.push_back(line);
                            }}),
        thread_([this] { done_ = follower_.Run(stop_); }) {}
  ~Following() { Stop(); }

  Result<Nothing> Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return done_;
  }
  std::vector<std::string> trouble() const {
    const MutexLock lock(mutex_);
    return trouble_;
  }
  bool HasSaid(const std::string& words) const {
    const auto said = trouble();
    return std::any_of(said.begin(), said.end(),
                       [&](const std::string& line) { return line.find(words) != line.npos; });
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::string> trouble_ GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  Result<Nothing> done_ = Nothing{};
  AdapterFollower follower_;
  std::thread thread_;
};

template <class Holds>
bool Soon(const Holds& holds) {
  for (const auto end = Clock::now() + std::chrono::seconds(20); Clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

bool SoonHas(const LoraStandIn& server, const Names& names) {
  return Soon([&] { return server.adapters() == names; });
}

LoraServer ServerAt(const std::string& url, uint32_t retries_max = 0) {
  return LoraServer({url, "", {milliseconds(2'000), milliseconds(5'000)}, retries_max});
}

}  // namespace

// ---- The protocol -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_name_that_is_there_is_loaded_and_one_that_is_not_is_unloaded) {
  const TempFolder folder;
  const SnapshotRef snapshot = WriteSample(folder.path(), "acme", 7);
  const std::string at = folder.path() + "/" + snapshot.uri;
  const LoraStandIn server;
  const LoraServer client = ServerAt(server.url());
  for (int i = 0; i < 2; ++i) BOOST_TEST(client.Load("acme-7", at, {}).ok());
  BOOST_CHECK(*client.Names({}) == Names({LoraStandIn::kBase, "acme-7"}));
  for (int i = 0; i < 2; ++i) BOOST_TEST(client.Unload("acme-7", {}).ok());
  BOOST_CHECK(server.changes() == Told({"+acme-7", "-acme-7"}));
  const auto requests = server.requests();
  BOOST_TEST(requests.front().ends_with(Json({{"lora_name", "acme-7"}, {"lora_path", at}}).dump()));
  BOOST_TEST(requests.front().starts_with("POST /v1/load_lora_adapter HTTP/1.1\r\n"));
}

BOOST_AUTO_TEST_CASE(a_refusal_of_one_adapter_is_told_from_a_server_that_takes_none) {
  const LoraStandIn server;
  const Result<Nothing> refused = ServerAt(server.url()).Load("acme-7", "/nowhere", {});
  BOOST_REQUIRE(!refused.ok());
  BOOST_CHECK(refused.error().code == Code::kModelFailed);
  BOOST_TEST(refused.error().message ==
             "the server does not load acme-7: HTTP 404: \"No adapter found for /nowhere\"");
  const auto unavailable = [](const std::string& url, const std::string& words,
                              uint32_t retries_max = 0) {
    const Result<Nothing> failed = ServerAt(url, retries_max).Load("acme-7", "/nowhere", {});
    BOOST_REQUIRE(!failed.ok());
    BOOST_CHECK(failed.error().code == Code::kUnavailable);
    const std::string said = failed.error().message + ": " + failed.error().remedy;
    BOOST_TEST(said.find(words) != said.npos, said);
  };
  const FaultServer plain({Says("404 Not Found", R"({"detail":"Not Found"})")});
  unavailable(plain.url(), "takes no adapters: it says HTTP 404: start vLLM with --enable-lora");
  const FaultServer locked({Says("401 Unauthorized", R"({"error":"Unauthorized"})")});
  unavailable(locked.url(), "it says HTTP 401: see follow.key_file");
  const FaultServer ill({Says("503 Service Unavailable", "")});
  unavailable(ill.url(), "does not answer, after 2 tries: it says HTTP 503", 1);
  BOOST_TEST(ill.requests().size() == 2U);
  unavailable("http://127.0.0.1:9/v1", "after 1 try: no connection");
  const FaultServer page({Says("200 OK", "<html>")});
  BOOST_TEST(!ServerAt(page.url()).Names({}).ok());
}

// ---- Following ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(each_new_version_is_loaded_and_then_the_one_before_is_taken_away) {
  Output output;
  const LoraStandIn server;
  const Following following(OptionsFor(output, server.url()));
  const std::string first = NameOf("acme", output.Publish("acme", 1));
  BOOST_TEST(SoonHas(server, {first}));
  const std::string other = NameOf("globex", output.Publish("globex", 1));
  const std::string second = NameOf("acme", output.Publish("acme", 2));
  BOOST_TEST(SoonHas(server, {other, second}));
  const Told changes = server.changes();
  BOOST_TEST(changes.size() == 4U);
  BOOST_TEST(changes.back() == "-" + first);
  BOOST_TEST(following.trouble().empty());
}

BOOST_AUTO_TEST_CASE(of_a_long_log_the_newest_versions_alone_are_offered) {
  Output output;
  std::vector<std::string> names;
  for (uint32_t version = 1; version <= 4; ++version) {
    names.push_back(NameOf("acme", output.Publish("acme", version)));
  }
  const LoraStandIn server;
  AdapterFollowerOptions options = OptionsFor(output, server.url());
  options.follow.versions_per_tenant_max = 2;
  const Following following(options);
  BOOST_TEST(SoonHas(server, {names[2], names[3]}));
  BOOST_CHECK(server.changes() == Told({"+" + names[2], "+" + names[3]}));
}

BOOST_AUTO_TEST_CASE(a_restart_of_the_follower_changes_nothing_and_takes_away_what_it_had_left) {
  Output output;
  const LoraStandIn server;
  const std::string first = NameOf("acme", output.Publish("acme", 1));
  {
    Following following(OptionsFor(output, server.url()));
    BOOST_TEST(SoonHas(server, {first}));
    BOOST_TEST(following.Stop().ok());
  }
  {
    Following following(OptionsFor(output, server.url()));
    const size_t before = server.requests().size();
    BOOST_TEST(Soon([&] { return server.requests().size() >= before + 2; }));
    BOOST_TEST(following.Stop().ok());
  }
  BOOST_CHECK(server.changes() == Told({"+" + first}));
  const std::string second = NameOf("acme", output.Publish("acme", 2));
  const Following following(OptionsFor(output, server.url()));
  BOOST_TEST(SoonHas(server, {second}));
  BOOST_CHECK(server.changes() == Told({"+" + first, "+" + second, "-" + first}));
}

BOOST_AUTO_TEST_CASE(a_server_that_was_started_anew_gets_all_again) {
  Output output;
  auto server = std::make_unique<LoraStandIn>();
  const uint16_t port = server->port();
  AdapterFollowerOptions options = OptionsFor(output, server->url());
  options.follow.retries_max = 8;
  const std::string name = NameOf("acme", output.Publish("acme", 1));
  const Following following(options);
  BOOST_TEST(SoonHas(*server, {name}));
  server.reset();
  server = std::make_unique<LoraStandIn>(port);
  BOOST_TEST(SoonHas(*server, {name}));
}

BOOST_AUTO_TEST_CASE(files_that_are_not_those_of_the_outcome_are_never_offered) {
  Output output;
  const LoraStandIn server;
  const SnapshotRef first = output.Publish("acme", 1);
  const SnapshotRef spoilt = WriteSample(output.path() + "/snapshots", "acme", 2, 2);
  const std::string file = output.FolderOf(spoilt) + "/adapter_model.safetensors";
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(-1, std::ios::end)
      << '!';
  SnapshotRef elsewhere = first;
  elsewhere.uri = "acme/../../" + first.uri;
  const Following following(OptionsFor(output, server.url()));
  BOOST_TEST(SoonHas(server, {NameOf("acme", first)}));
  output.Say("acme", {spoilt, elsewhere});
  BOOST_TEST(Soon([&] {
    return following.HasSaid("adapter_model.safetensors is not what its outcome says") &&
           following.HasSaid("which is none of the tenant acme");
  }));
  // The version before it stays, for there is none in its place.
  std::this_thread::sleep_for(milliseconds(300));
  BOOST_CHECK(server.changes() == Told({"+" + NameOf("acme", first)}));
  BOOST_TEST(following.trouble().size() == 2U);  // each is said once
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_deleted_is_taken_away_and_one_that_comes_back_is_loaded) {
  Output output;
  const LoraStandIn server;
  const SnapshotRef snapshot = output.Publish("acme", 1);
  const Following following(OptionsFor(output, server.url()));
  BOOST_TEST(SoonHas(server, {NameOf("acme", snapshot)}));
  const std::string away = output.path() + "/away";
  fs::rename(output.FolderOf(snapshot), away);
  BOOST_TEST(SoonHas(server, {}));
  fs::rename(away, output.FolderOf(snapshot));
  BOOST_TEST(SoonHas(server, {NameOf("acme", snapshot)}));
  // The whole folder gone is a disk that is not there, and no wish of anybody.
  fs::rename(output.path() + "/snapshots", away);
  BOOST_TEST(Soon([&] { return following.HasSaid("nothing is loaded or taken away"); }));
  BOOST_CHECK(server.adapters() == Names({NameOf("acme", snapshot)}));
}

BOOST_AUTO_TEST_CASE(an_adapter_that_is_refused_holds_up_no_other_and_is_tried_again) {
  Output output;
  LoraStandIn server;
  const std::string first = NameOf("acme", output.Publish("acme", 1));
  const Following following(OptionsFor(output, server.url()));
  BOOST_TEST(SoonHas(server, {first}));
  server.SetRefusing(true);
  const std::string second = NameOf("acme", output.Publish("acme", 2));
  BOOST_TEST(Soon([&] { return following.HasSaid("LoRA rank 64 is greater than max_lora_rank"); }));
  BOOST_CHECK(server.adapters() == Names({first}));
  server.SetRefusing(false);
  BOOST_TEST(SoonHas(server, {second}));
}

BOOST_AUTO_TEST_CASE(a_server_that_is_away_ends_it_and_the_next_start_goes_on) {
  Output output;
  const std::string name = NameOf("acme", output.Publish("acme", 1));
  uint16_t port = 0;
  {
    const LoraStandIn gone;
    port = gone.port();
  }
  const std::string url = "http://127.0.0.1:" + std::to_string(port) + "/v1";
  {
    AdapterFollower follower(OptionsFor(output, url), {});
    const std::atomic<bool> stop{false};
    const Result<Nothing> done = follower.Run(stop);
    BOOST_REQUIRE(!done.ok());
    BOOST_CHECK(done.error().code == Code::kUnavailable);
  }
  const LoraStandIn server(port);
  const Following following(OptionsFor(output, url));
  BOOST_TEST(SoonHas(server, {name}));
}

BOOST_AUTO_TEST_CASE(one_state_folder_is_one_followers) {
  Output output;
  const LoraStandIn server;
  const AdapterFollowerOptions options = OptionsFor(output, server.url());
  AdapterFollower follower(options, {});
  BOOST_CHECK_EXCEPTION(AdapterFollower(options, {}), StartError, [](const StartError& error) {
    return std::string(error.what()).find("another process has it") != std::string::npos;
  });
}

BOOST_AUTO_TEST_CASE(a_state_that_is_damaged_is_named) {
  Output output;
  const LoraStandIn server;
  const AdapterFollowerOptions options = OptionsFor(output, server.url());
  fs::create_directories(options.follow.state_folder);
  std::ofstream(options.follow.state_folder + "/adapters.json") << R"({"format":1,"adapters":3)";
  BOOST_CHECK_EXCEPTION(AdapterFollower(options, {}), StartError, [](const StartError& error) {
    return std::string(error.what()).find("adapters.json: it is not what nudge follow wrote") !=
           std::string::npos;
  });
}

// ---- The command --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_command_of_the_guide_offers_what_the_outcomes_name) {
  std::ifstream guide(NUDGE_SOURCE_DIR "/docs/OPERATING.md");
  const std::string text{std::istreambuf_iterator<char>(guide), {}};
  BOOST_TEST(text.find("build/release/nudge follow configs/serve-openai.json") != text.npos);
  Output output;
  const std::string name = NameOf("acme", output.Publish("acme", 1));
  const LoraStandIn server;
  Json config = Json::parse(std::ifstream(NUDGE_SOURCE_DIR "/configs/serve-openai.json"));
  BOOST_TEST(config["follow"]["server_url"] == config["model"]["openai"]["url"]);
  config["output"]["folder"] = output.path();
  config["follow"]["server_url"] = server.url();
  const std::string path = output.path() + "/config.json";
  std::ofstream(path) << config;
  // In the foreground: timeout signals its whole group else, and a second signal is no clean stop.
  const std::string command = std::string("timeout --foreground --preserve-status -s TERM 2 ") +
                              NUDGE_BINARY + " follow " + path;
  const auto [status, said] = RunCommand(command);
  BOOST_TEST(WEXITSTATUS(status) == kExitDone);
  BOOST_TEST(said.find("loaded " + name + " from ") != said.npos, said);
  BOOST_TEST(said.find("stopped after 1 adapters loaded, 0 taken away") != said.npos, said);
  BOOST_CHECK(server.adapters() == Names({name}));

  config["follow"]["server_url"] = "http://127.0.0.1:9/v1";
  config["follow"]["retries_max"] = 0;
  std::ofstream(path) << config;
  BOOST_TEST(WEXITSTATUS(RunCommand(command).first) == kExitUnavailable);
  config["adapt"]["scope"] = "user";
  std::ofstream(path) << config;
  BOOST_TEST(WEXITSTATUS(RunCommand(command).first) == kExitUsage);
}
