// labels: model
// The real backend against what can happen to it while it runs.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <set>

#include "stages/model/local_backend.h"
#include "tests/models.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

TextExample AStudy() {
  return {{{"user", "When do you open?"}}, "At nine.", "We open at eight.", 0};
}

void FlipByteAt(const std::string& path, std::streamoff at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const int before = file.get();
  file.seekp(at);
  file.put(static_cast<char>(before ^ 1));
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_model_file_that_changes_under_a_running_backend_is_not_learnt_with) {
  const TempFolder folder;
  const std::string path = folder.path() + "/model.gguf";
  std::filesystem::copy_file(ModelPath(), path);
  LocalBackendOptions options;
  options.language_model = path;
  options.slots = 1;
  options.window_tokens = 256;
  options.products = "f32";
  const std::unique_ptr<Backend> backend = MakeLocalBackend(options);
  const std::unique_ptr<BackendLearner> learner = backend->NewLearner("tenant");
  // A weight of the middle of the file, as an update in place would change it.
  const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(path) / 2);
  FlipByteAt(path, middle);
  const auto refused = learner->Step(AStudy(), SerialFor());
  BOOST_REQUIRE(!refused.ok());
  BOOST_TEST((refused.error().code == Code::kUnreadableFile));
  BOOST_TEST(refused.error().message.find("has changed") != std::string::npos);
  BOOST_TEST(learner->Save() == "");
  FlipByteAt(path, middle);
  const auto learnt = learner->Step(AStudy(), SerialFor());
  BOOST_REQUIRE(learnt.ok());
  BOOST_TEST(learnt->accepted);
}

BOOST_AUTO_TEST_CASE(tenants_in_turns_learn_the_same_whatever_is_kept_in_memory_and_restarted) {
  const TempFolder folder;
  constexpr size_t kTenants = 3;
  // Of each tenant: the digests of its versions, and all that its learner is.
  const auto learn = [&](size_t in_memory, bool restarts) {
    LocalBackendOptions options;
    options.language_model = ModelPath();
    options.slots = 1;
    options.window_tokens = 256;
    options.products = "f32";
    options.learners_in_memory = in_memory;
    options.spill_folder = folder.path();
    std::unique_ptr<Backend> backend = MakeLocalBackend(options);
    std::vector<std::unique_ptr<BackendLearner>> learners;
    for (size_t i = 0; i < kTenants; ++i) learners.push_back(backend->NewLearner("tenant"));
    std::vector<std::string> results;
    for (int round = 0; round < 2; ++round) {
      for (size_t i = 0; i < kTenants; ++i) {
        TextExample text = AStudy();
        text.correction = "We open at " + std::to_string(6 + i) + ".";
        const auto learnt = learners[i]->Step(text, SerialFor());
        BOOST_REQUIRE((learnt.ok() && learnt->accepted));
        const auto version = learners[i]->Publish("base", SerialFor());
        BOOST_REQUIRE(version.ok());
        results.push_back((*version)->digest);
      }
      if (!restarts || round > 0) continue;
      std::vector<std::string> saved;
      for (const auto& learner : learners) saved.push_back(learner->Save());
      learners.clear();
      backend = MakeLocalBackend(options);
      for (const std::string& bytes : saved) {
        learners.push_back(std::move(*backend->LoadLearner("tenant", bytes)));
        BOOST_TEST((learners.back()->Save() == bytes));
      }
    }
    for (const auto& learner : learners) results.push_back(learner->Save());
    return results;
  };
  const std::vector<std::string> expected = learn(10, false);
  BOOST_TEST((learn(1, false) == expected));
  BOOST_TEST((learn(1, true) == expected));
  BOOST_TEST((learn(10, true) == expected));
  BOOST_TEST(expected[3] != expected[4]);
}

// Where the processor has AMX, the libraries below share each thread's tiles.
BOOST_AUTO_TEST_CASE(vectors_answers_and_lessons_on_one_thread_leave_each_other_alone) {
  LocalBackendOptions options;
  options.language_model = ModelPath();
  options.embedder = ModelFolder() + kE5Name;
  options.slots = 1;
  options.window_tokens = 256;
  const std::unique_ptr<Backend> backend = MakeLocalBackend(options);
  const std::vector<ChatMessage> chat = {{"user", "When do you open on a Sunday in the winter?"}};
  const std::string text = "The harbour office opens at eight and closes when the last boat is in.";
  const auto vector_and_answer = [&] {
    const auto vector = backend->Embed(0, text, false);
    BOOST_REQUIRE(vector.ok());
    const auto answer = backend->Generate(0, chat, nullptr, {.max_tokens = 12}, 1, {});
    BOOST_REQUIRE(answer.ok());
    return std::pair(*vector, answer->text);
  };
  const auto before = vector_and_answer();
  std::set<std::string> learnt;
  for (int round = 0; round < 2; ++round) {
    const std::unique_ptr<BackendLearner> learner = backend->NewLearner("tenant");
    for (int lesson = 0; lesson < 2; ++lesson) {
      const auto step = learner->Step(AStudy(), SerialFor());
      BOOST_REQUIRE((step.ok() && step->accepted));
      BOOST_TEST((vector_and_answer() == before));
    }
    learnt.insert(learner->Save());
  }
  BOOST_TEST(learnt.size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_learner_of_another_rank_learns_again_once_it_is_reset) {
  const auto backend_of = [](uint32_t rank) {
    LocalBackendOptions options;
    options.language_model = ModelPath();
    options.slots = 1;
    options.window_tokens = 256;
    options.products = "f32";
    options.learner.rank = rank;
    return MakeLocalBackend(options);
  };
  std::string saved;
  {
    const std::unique_ptr<Backend> before = backend_of(2);
    const std::unique_ptr<BackendLearner> learner = before->NewLearner("tenant");
    BOOST_REQUIRE(learner->Step(AStudy(), SerialFor()).ok());
    saved = learner->Save();
  }
  const std::unique_ptr<Backend> backend = backend_of(4);
  const std::unique_ptr<BackendLearner> learner = std::move(*backend->LoadLearner("tenant", saved));
  const auto refused = learner->Step(AStudy(), SerialFor());
  BOOST_REQUIRE(!refused.ok());
  BOOST_TEST((refused.error().code == Code::kWrongAdapter));
  BOOST_TEST((learner->Save() == saved));
  BOOST_REQUIRE(learner->Adopt(nullptr).ok());
  const std::unique_ptr<BackendLearner> fresh = backend->NewLearner("tenant");
  for (const auto& one : {learner.get(), fresh.get()}) {
    const auto learnt = one->Step(AStudy(), SerialFor());
    BOOST_REQUIRE((learnt.ok() && learnt->accepted));
  }
  BOOST_TEST((learner->Save() == fresh->Save()));
}

BOOST_AUTO_TEST_CASE(a_bound_too_small_for_the_longest_lesson_stops_the_start_with_what_it_takes) {
  LocalBackendOptions options;
  options.language_model = ModelPath();
  options.slots = 1;
  options.window_tokens = 4096;
  options.training_bytes_max = 600'000'000;
  BOOST_CHECK_EXCEPTION(MakeLocalBackend(options), StartError, [](const StartError& error) {
    const std::string said = error.what();
    return said.starts_with(
               "adapt.training_bytes_max: 600000000 is too little for lessons of 4096") &&
           said.find("lower model.window_tokens") != std::string::npos;
  });
  options.window_tokens = 2048;
  BOOST_CHECK_NO_THROW(MakeLocalBackend(options));
}
