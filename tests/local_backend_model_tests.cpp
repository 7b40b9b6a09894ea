// labels: model
// The real backend against what can happen to it while it runs.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>

#include "stages/model/local_backend.h"
#include "tests/models.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

Study AStudy() {
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
