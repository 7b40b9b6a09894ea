// labels: golden
// The shipped ten-second recording on the template backend: the same bytes on every machine, at
// every number of threads, in one go or in pieces.
#include <boost/test/unit_test.hpp>

#include <fstream>

#include "connectors/file_source.h"
#include "connectors/memory.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/processor.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::TempFolder;

namespace {

const std::string kSource = NUDGE_SOURCE_DIR;

std::string Golden() {
  std::ifstream file(kSource + "/tests/golden/quickstart-template.sha256");
  std::string hash;
  file >> hash;
  return hash;
}

std::string ChainAt(int threads) {
  const TempFolder folder;
  Config config = ReadConfig(kSource + "/configs/quickstart-template.json");
  config.output.folder = folder.path();
  config.processor.graph.threads = threads;
  config.processor.executor.threads = static_cast<size_t>(threads);
  const std::unique_ptr<Backend> backend = MakeBackend(config);
  FileSource source({.path = config.input.path});
  MemorySink sink;
  Processor processor(ToProcessorOptions(config), {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE(summary.ok());
  BOOST_TEST(summary->at(0).events == 120u);
  return Hex(summary->at(0).chain);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_template_recording_ends_in_its_golden_chain_at_any_number_of_threads) {
  for (const int threads : {1, 2, 4}) BOOST_TEST(ChainAt(threads) == Golden());
}
