// labels: kafka model
// `nudge run` with the real models, killed while it learns, answers, saves and commits: what it has
// learnt in the end is, byte for byte, what one run on one thread that nobody disturbed has learnt.
// NUDGE_KILLS: how many sequences of kills.
#include <boost/test/unit_test.hpp>

#include <sqlite3.h>

#include <filesystem>
#include <iterator>

#include "tests/kafka_trial.h"
#include "tests/models.h"

using namespace nudge;
using namespace nudge::testing;

BOOST_TEST_GLOBAL_FIXTURE(Tally);

namespace {

constexpr int32_t kPartitionCount = 2;

// Where a process dies, each time once more of the work has come.
constexpr const char* kPlaces[] = {"training", "generation", "checkpoint-inside",
                                   "commit-offsets-sent", "commit"};
constexpr size_t kPlaceCount = std::size(kPlaces);

std::string TenantOf(int32_t partition) {
  for (int i = 0;; ++i) {
    std::string tenant = "shop-" + std::to_string(i);
    if (Murmur2Partition(tenant, kPartitionCount) == partition) return tenant;
  }
}

std::string Line(const std::string& tenant, const std::string& id, const std::string& type,
                 const std::string& data) {
  return R"({"specversion":"1.0","id":")" + id + R"(","source":"/test","type":"nudge.)" + type +
         R"(","tenant":")" + tenant + R"(","user":"ann","data":{)" + data + "}}";
}

// A document for each tenant, then rounds of a question of one of them and what was thought of the
// answer.
std::vector<std::string> Lines() {
  constexpr const char* kQuestions[] = {"When do you open?",         "What does a tent cost?",
                                        "How long is the warranty?", "Where is the shop?",
                                        "Do you mend stoves?",       "Who mends boats?"};
  constexpr const char* kAnswers[] = {"At eight.",       "Ninety euros.",    "Two years.",
                                      "At the harbour.", "Yes, on Mondays.", "Pine does."};
  static_assert(std::size(kQuestions) == kPlaceCount + 1);
  std::vector<std::string> lines;
  for (int32_t partition = 0; partition < kPartitionCount; ++partition) {
    lines.push_back(Line(TenantOf(partition), "document", "document.upsert",
                         R"("document_id":"shop","title":"Shop","text":"The shop at the harbour )"
                         R"(opens at eight. A tent costs ninety euros.")"));
  }
  for (size_t i = 0; i < std::size(kQuestions); ++i) {
    const std::string tenant = TenantOf(static_cast<int32_t>(i) % kPartitionCount);
    const std::string query = "q" + std::to_string(i);
    lines.push_back(
        Line(tenant, query, "query", "\"text\":\"" + std::string(kQuestions[i]) + "\""));
    const std::string thought = i % 3 == 2 ? std::string(R"("rating":"up")")
                                           : "\"correction\":\"" + std::string(kAnswers[i]) + "\"";
    lines.push_back(Line(tenant, "f" + std::to_string(i), "feedback",
                         "\"query_id\":\"" + query + "\"," + thought));
  }
  return lines;
}
constexpr size_t kRound = 2;  // events

// Small enough for many steps a minute; every step's adapter is written as a snapshot.
std::string Sections(const std::string& folder) {
  const std::string anchors = folder + "/anchors.txt";
  std::ofstream(anchors) << R"({"user":"What do bees make?","assistant":"Honey."})"
                         << "\n"
                         << R"({"user":"What is 2 + 2?","assistant":"Four."})"
                         << "\n";
  return R"("model": {"backend": "local", "language_model": ")" + ModelPath() +
         R"(", "embedder": ")" + ModelFolder() + kE5Name + R"(", "window_tokens": 256},
  "limits": {"in_flight_events": 8},
  "index": {"passages": 1},
  "adapt": {"rank": 2, "alpha": 4, "publish_every_steps": 1, "snapshot_every_versions": 1,
            "anchors_path": ")" +
         anchors + R"("},
  "prompt": {"system": "Answer.", "few_shots": 0,
             "presets": [{"name": "greedy", "temperature": 0, "max_tokens": 4}]},
  "respond": {"prompt_tokens_max": 96},
  "checkpoint": {"every_events": 2, "backup_every_cuts": 2},
  "executor": {"threads": 2})";
}

// SHA-256 of each file below the folder.
std::map<std::string, std::string> Files(const std::string& folder) {
  std::map<std::string, std::string> digests;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    digests[std::filesystem::relative(entry.path(), folder)] = Sha256Hex(bytes);
  }
  return digests;
}

// SHA-256 of each entry of a partition's state: documents, records, the learner with its weights
// and moments.
std::map<std::string, std::string> Entries(const std::string& folder, int32_t partition) {
  const std::string path = folder + "/state/partition-0000" + std::to_string(partition) + ".sqlite";
  sqlite3* database = nullptr;
  BOOST_REQUIRE(sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READONLY, nullptr) ==
                SQLITE_OK);
  sqlite3_stmt* rows = nullptr;
  BOOST_REQUIRE(sqlite3_prepare_v2(database, "SELECT kind, tenant, id, value FROM entries", -1,
                                   &rows, nullptr) == SQLITE_OK);
  std::map<std::string, std::string> digests;
  while (sqlite3_step(rows) == SQLITE_ROW) {
    std::string name;
    for (int column = 0; column < 3; ++column) {
      name += std::string(reinterpret_cast<const char*>(sqlite3_column_text(rows, column))) + " ";
    }
    digests[name] = Sha256Hex({static_cast<const char*>(sqlite3_column_blob(rows, 3)),
                               static_cast<size_t>(sqlite3_column_bytes(rows, 3))});
  }
  sqlite3_finalize(rows);
  sqlite3_close(database);
  return digests;
}

void ExpectSame(const std::map<std::string, std::string>& found,
                const std::map<std::string, std::string>& oracle) {
  BOOST_TEST(found.size() == oracle.size());
  for (const auto& [name, digest] : oracle) {
    const auto other = found.find(name);
    BOOST_TEST((other != found.end() && other->second == digest),
               name << (other == found.end() ? " is missing" : " differs from the oracle's"));
  }
}

// Dies at the place; or, inside a commit that the broker carries out and whose answer is held.
void RunUntilItDies(const Trial& trial, const std::string& place) {
  KafkaProxy& proxy = KafkaBroker::OfTheSuite().proxy();
  const bool in_commit = place == "commit";
  if (in_commit) proxy.Arm(KafkaApi::kEndTxn, KafkaProxy::Moment::kAnswer, KafkaProxy::Act::kHold);
  Process process(trial, "one", in_commit ? "" : "NUDGE_DIE_AT=" + place + ":1");
  if (in_commit) {
    BOOST_REQUIRE(proxy.WaitForBites());
    BOOST_TEST(process.Kill());
    proxy.CutAll();
    return;
  }
  const int end = process.Wait();
  BOOST_REQUIRE_MESSAGE(end == -SIGKILL, "the fault did not bite: " << end << process.Log());
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_learnt_is_learnt_once_whatever_is_killed) {
  const TempFolder folder;
  const std::string sections = Sections(folder.path());
  const Workload load(Lines(), kPartitionCount, sections, folder.path());
  const auto& oracle = load.Oracle();
  BOOST_TEST(oracle.size() == size_t{kPartitionCount});
  const auto snapshots = Files(folder.path() + "/snapshots");
  BOOST_TEST(snapshots.size() >= kPlaceCount + 1);
  for (int repetition = 0; repetition < Repetitions(1); ++repetition) {
    BOOST_TEST_CONTEXT("repetition " << repetition) {
      const Trial trial("learnt-" + std::to_string(repetition), load,
                        {.behind_proxy = true, .publish = false, .model = sections});
      size_t published = kPartitionCount;
      trial.Publish(0, published);
      for (size_t round = 0; round < kPlaceCount; ++round) {
        trial.Publish(published, published + kRound);
        published += kRound;
        const std::string place = kPlaces[(round + static_cast<size_t>(repetition)) % kPlaceCount];
        BOOST_TEST_CONTEXT(place) {
          RunUntilItDies(trial, place);
        }
      }
      trial.Publish(published, load.size());
      const size_t aborted = FinishAndCheck(trial, "one");
      Tally::Add("real models: killed at five places in turn", kPlaceCount, aborted);
      ExpectSame(Files(trial.folder.path() + "/snapshots"), snapshots);
      for (int32_t partition = 0; partition < kPartitionCount; ++partition) {
        const auto entries = Entries(folder.path(), partition);
        BOOST_TEST(entries.size() > kPlaceCount);
        ExpectSame(Entries(trial.folder.path(), partition), entries);
      }
    }
  }
}
