// labels: model
// Under a limit on their address space, programs that do not fit say so: at the start with exit
// code 2, later in the run with 1 and what was committed.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "stages/model/local_backend.h"
#include "tests/models.h"
#include "tests/temp_folder.h"
#include "tests/trainer_helpers.h"

namespace nudge {
namespace {

using testing::kE5Name;
using testing::kSmolLmName;
using testing::ModelFolder;
using testing::ModelPath;

struct Ended {
  int exit_code = -1;  // -1: by a signal
  std::string said;
};

// `nudge replay CONFIG` with `megabytes` of address space.
Ended Replay(const std::string& folder, size_t megabytes) {
  const std::string config = folder + "/config.json", log = folder + "/log";
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{megabytes << 20, megabytes << 20};
    const bool ready = freopen(log.c_str(), "w", stderr) != nullptr &&
                       freopen("/dev/null", "w", stdout) != nullptr &&
                       setrlimit(RLIMIT_AS, &limit) == 0;
    if (ready) execl(NUDGE_BINARY, NUDGE_BINARY, "replay", config.c_str(), nullptr);
    _exit(99);
  }
  int status = 0;
  BOOST_REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
  std::ifstream file(log);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          std::string(std::istreambuf_iterator<char>(file), {})};
}

void WriteRun(const std::string& folder, bool embedder, const std::string& adapt) {
  std::ofstream(folder + "/events.jsonl");
  std::ofstream(folder + "/config.json")
      << R"({"input": {"path": "events.jsonl"}, "output": {"folder": ")" << folder
      << R"(/out"}, "executor": {"threads": 1}, "graph": {"threads": 1}, "adapt": )" << adapt
      << R"(, "model": {"window_tokens": 256, "language_model": ")" << ModelPath() << "\""
      << (embedder ? R"(, "embedder": ")" + ModelFolder() + kE5Name + "\"" : "") << "}}";
}

// From too little for anything up to enough: never a crash, and each thing named on the way.
BOOST_AUTO_TEST_CASE(a_model_that_does_not_fit_in_memory_is_refused_by_name_with_exit_code_2) {
  const testing::TempFolder folder;
  const std::string stem = std::filesystem::path(kSmolLmName).stem();  // whatever form
  bool language_model = false, embedder = false, trainer = false;
  WriteRun(folder.path(), true, R"({"enabled": true})");
  for (size_t megabytes = 200; megabytes < 3600; megabytes += megabytes < 1000 ? 40 : 400) {
    const Ended ended = Replay(folder.path(), megabytes);
    BOOST_TEST_MESSAGE(megabytes << " MB: exit " << ended.exit_code << " " << ended.said);
    BOOST_REQUIRE((ended.exit_code == 0 || ended.exit_code == 2));
    if (ended.exit_code == 0) break;
    BOOST_TEST(ended.said.starts_with("nudge: "), ended.said);
    BOOST_TEST(ended.said.find("no memory to") != std::string::npos, ended.said);
    const bool trains = ended.said.find("no memory to train it") != std::string::npos;
    trainer = trainer || trains;
    language_model = language_model || (!trains && ended.said.find(stem) != std::string::npos);
    embedder = embedder || ended.said.find(kE5Name) != std::string::npos;
  }
  BOOST_TEST(language_model);
  BOOST_TEST(embedder);
  BOOST_TEST(trainer);
  BOOST_TEST(Replay(folder.path(), 3600).exit_code == 0);
}

// A lesson that failed for want of memory would make other outcomes than one with enough of it.
BOOST_AUTO_TEST_CASE(a_run_whose_memory_ends_at_a_lesson_stops_with_a_sentence_and_exit_code_1) {
  const testing::TempFolder folder;
  const std::string log = folder.path() + "/log";
  for (const bool in_file : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      LocalBackendOptions options;
      options.language_model = ModelPath();
      options.slots = 1;
      options.window_tokens = 256;
      options.products = "f32";
      options.base_memory = in_file ? "file" : "copy";
      const auto backend = MakeLocalBackend(options);
      std::ifstream statm("/proc/self/statm");
      size_t pages = 0;
      statm >> pages;
      const size_t bytes = pages * 4096 + (size_t{50} << 20);
      const rlimit limit{bytes, bytes};
      if (freopen(log.c_str(), "w", stderr) == nullptr || setrlimit(RLIMIT_AS, &limit) != 0) {
        _exit(99);
      }
      const auto learner = backend->NewLearner("t");
      const auto step = learner->Step({{{"user", "Who?"}}, "Me.", std::nullopt, 1}, SerialFor());
      _exit(step.ok() ? 98 : 97);
    }
    int status = 0;
    BOOST_REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    std::ifstream file(log);
    const std::string said(std::istreambuf_iterator<char>(file), {});
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 1), status << " " << said);
    BOOST_TEST(said.starts_with("nudge: no memory left: the run stops here"), said);
  }
}

// With what is served beside it, and the whole of the window as its prompt.
BOOST_AUTO_TEST_CASE(a_lesson_of_4000_tokens_is_learnt_in_4_gigabytes) {
  int ends[2];
  BOOST_REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{4'000'000'000, 4'000'000'000};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(99);
    LocalBackendOptions options;
    options.language_model = ModelPath();
    options.embedder = ModelFolder() + kE5Name;
    options.window_tokens = 4096;
    options.products = "f32";
    const auto backend = MakeLocalBackend(options);
    std::string text = "Which of these is the last?";
    TextExample example{{{"user", text}}, "The first.", "The last.", 0};
    for (size_t i = 0; backend->CountTokens(example.chat) < 4000; ++i) {
      example.chat[0].text = "Note " + std::to_string(i) + " says nothing. " + example.chat[0].text;
    }
    const auto learner = backend->NewLearner("t");
    const auto step = learner->Step(example, testing::ThreadsFor(2));
    if (!step.ok() || !step->accepted) _exit(98);
    const LessonReport& report = *step;
    _exit(write(ends[1], &report, sizeof(report)) == sizeof(report) ? 0 : 97);
  }
  LessonReport report;
  int status = 0;
  BOOST_REQUIRE((child > 0 && waitpid(child, &status, 0) == child));
  BOOST_REQUIRE(status == 0);
  BOOST_REQUIRE(read(ends[0], &report, sizeof(report)) == sizeof(report));
  BOOST_TEST(report.tokens >= 4000u);
  BOOST_TEST(report.tokens <= 4096u);
  BOOST_TEST(report.left_out.pushed_away >= 4000u);  // the window has room for one of the two
}

}  // namespace
}  // namespace nudge
