// labels: model
// The page of `nudge serve` in headless Chromium, as page_browser.mjs uses it: somebody adds a
// document, asks, corrects and sees the answer change; axe-core finds nothing serious.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <string>

#include "answering.h"
#include "models.h"
#include "run_command.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

std::string Use(const Answering& served, const std::string& how = "") {
  const std::string packages = CacheFolder() + "/page-tests";
  BOOST_REQUIRE_MESSAGE(std::filesystem::exists(packages + "/node_modules"),
                        packages + ": run scripts/setup --tools");
  const auto [status, said] =
      RunCommand("timeout 300 node " NUDGE_SOURCE_DIR "/tests/page_browser.mjs http://127.0.0.1:" +
                 std::to_string(served.port()) + "/ /usr/bin/chromium '" + packages + "' " + how);
  BOOST_TEST(status == 0, said);
  return said;
}

}  // namespace

BOOST_AUTO_TEST_CASE(without_a_model_everything_on_it_can_be_used) {
  Use(Answering("serve-template.json"));
}

BOOST_AUTO_TEST_CASE(with_a_model_the_answer_comes_to_what_it_was_corrected_to) {
  ModelPath();
  // A person alone who corrects one question, in steps as long as they get from the first on.
  const Answering served("serve-smollm.json", [](Config& config) {
    AdamWOptions& steps = config.model.local.learner.optimizer;
    steps.warmup_steps = 0;
    steps.learning_rate = 1e-3;
  });
  BOOST_TEST_MESSAGE(Use(served, "learns"));
}
