// labels: web
// The module for browsers, under node: the same adapter bytes as this machine's portable products.
#include <boost/test/unit_test.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "connectors/web/module/session.h"
#include "stages/hash.h"
#include "stages/model/adapters/lora_codec.h"
#include "tests/models.h"
#include "tests/portable_run.h"
#include "tests/temp_folder.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ModuleFolder() {
  const std::string folder = fs::absolute(NUDGE_SOURCE_DIR "/build/web").string();
  BOOST_REQUIRE_MESSAGE(fs::exists(folder + "/nudge_module.wasm"),
                        folder + " has no module: run scripts/setup --web and scripts/web --build");
  return folder;
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A folder as tests/web_module.mjs wants it, and the adapter that is to come out.
struct Exercise {
  std::string folder;
  std::string model;  // the GGUF's bytes
  WebOptions options;
  std::vector<TrainSequence> lesson;
  int steps;
  int imports;  // one after the other, within the same memory

  json LessonAsJson() const {
    constexpr const char* kObjectives[] = {"crossEntropy", "down", "anchor"};
    json sequences = json::array();
    for (const TrainSequence& sequence : lesson) {
      sequences.push_back({{"tokens", sequence.tokens},
                           {"completionBegin", sequence.completion_begin},
                           {"objective", kObjectives[static_cast<size_t>(sequence.objective)]},
                           {"weight", sequence.weight},
                           {"keep", sequence.keep},
                           {"reachFloor", sequence.reach_floor}});
    }
    return {{"options",
             {{"stepTokensMax", options.step_tokens_max},
              {"rank", options.rank},
              {"alpha", options.alpha},
              {"seed", options.seed}}},
            {"sequences", sequences},
            {"steps", steps},
            {"imports", imports}};
  }

  // The module's session, compiled for this machine.
  std::unique_ptr<WebSession> Open() const {
    const std::shared_ptr<void> bytes(AllocateAligned(model.size()), FreeAligned{});
    std::copy(model.begin(), model.end(), static_cast<char*>(bytes.get()));
    auto session = WebSession::Load(bytes, model.size(), options);
    BOOST_REQUIRE_MESSAGE(session.ok(), (session.ok() ? "" : session.error().message));
    return std::move(session).value();
  }

  // Writes the folder, whose adapter is the session's. The SHA-256 of what this machine ends with.
  std::string Expect(WebSession& session) const {
    fs::create_directories(folder);
    WriteFile(folder + "/model.gguf", model);
    WriteFile(folder + "/lesson.json", LessonAsJson().dump());
    const auto begin = session.Export(AdapterPrecision::kF32);
    BOOST_REQUIRE(begin.ok());
    WriteFile(folder + "/adapter.gguf", *begin);
    BOOST_REQUIRE(session.Import(*begin).ok());
    for (int step = 0; step < steps; ++step) BOOST_REQUIRE(session.Learn(lesson).ok());
    const auto end = session.Export(AdapterPrecision::kF32);
    BOOST_REQUIRE(end.ok());
    return Sha256Hex(*end);
  }
};

// What node's script prints: the SHA-256 of the adapter of each folder.
std::map<std::string, std::string> RunInNode(const std::map<std::string, std::string>& folders) {
  std::string command =
      "timeout 600 node " NUDGE_SOURCE_DIR "/tests/web_module.mjs " + ModuleFolder();
  for (const auto& [folder, sha256] : folders) command += " " + folder;
  FILE* const node = popen(command.c_str(), "r");
  BOOST_REQUIRE(node != nullptr);
  std::string text;
  for (int c = std::fgetc(node); c != EOF; c = std::fgetc(node)) text += static_cast<char>(c);
  BOOST_REQUIRE_MESSAGE(pclose(node) == 0, command + " failed: " + text);
  std::map<std::string, std::string> digests;
  std::istringstream lines(text);
  for (std::string folder, digest; lines >> folder >> digest;) digests[folder] = digest;
  return digests;
}

BOOST_AUTO_TEST_CASE(thirty_steps_under_node_give_the_adapter_bytes_of_this_machine) {
  const testing::TempFolder scratch;
  std::map<std::string, std::string> expected;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0}) {
      const testing::TemporaryFile file("web.gguf");
      testing::PortableModel(architecture).Write(file.path(), type);
      const Exercise exercise{scratch.path() + "/" + architecture + "-" + ggml_type_name(type),
                              testing::FileBytes(file.path()),
                              {testing::kPortableLimits.max_tokens, 3, 5, 1},
                              testing::PortableLesson(),
                              testing::kPortableSteps,
                              expected.empty() ? 1000 : 20};
      const auto session = exercise.Open();
      const auto weights = FrozenWeights::Load(file.path(), {.products = BaseProducts::kPortable});
      BOOST_REQUIRE(weights.ok());

      // From an adapter whose B is not zero.
      const LoraWeights initial = testing::PortableAdapter(**weights);
      AdapterManifest manifest;
      manifest.tenant = "somebody";
      manifest.digest = Digest(initial);
      manifest.base_sha256 = session->base_sha256();
      manifest.base_architecture = architecture;
      const auto begin = EncodeGguf(initial, manifest, {.precision = AdapterPrecision::kF32});
      BOOST_REQUIRE(begin.ok());
      BOOST_REQUIRE(session->Import(*begin).ok());
      expected[exercise.folder] = exercise.Expect(*session);
      // The session does what trainer and optimiser do, and no more.
      BOOST_TEST(session->digest() ==
                 Digest(testing::PortableRun(*weights, testing::ThreadsFor(2))));
    }
  }
  BOOST_TEST((RunInNode(expected) == expected));
}

BOOST_AUTO_TEST_CASE(lessons_of_the_real_model_under_node_give_the_adapter_bytes_of_this_machine) {
  const testing::TempFolder scratch;
  Exercise exercise{scratch.path() + "/smollm2",
                    testing::FileBytes(testing::ModelPath()),
                    {64, 8, 16, 1},
                    {},
                    2,
                    10};
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    TrainSequence sequence;
    sequence.tokens = testing::RandomTokens(20, 49152, seed);
    sequence.completion_begin = 12;
    exercise.lesson.push_back(sequence);
  }
  exercise.lesson[1].objective = Objective::kAnchor;
  const auto session = exercise.Open();
  const std::string untaught = session->digest();
  const std::map<std::string, std::string> expected = {
      {exercise.folder, exercise.Expect(*session)}};
  BOOST_TEST(session->digest() != untaught);
  BOOST_TEST((RunInNode(expected) == expected));
}

}  // namespace
}  // namespace nudge
