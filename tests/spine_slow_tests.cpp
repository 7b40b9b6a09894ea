// labels: graph slow
// The engine at size: a million events of fifty tenants, with seeded delays in prepare and in the
// executor, at 1, 2 and 4 threads: one chain.
#include <boost/test/unit_test.hpp>

#include <thread>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/seeded_delay.h"

using namespace nudge;
using nudge::testing::SeededDelay;

namespace {

constexpr size_t kEvents = 1'000'000;

class CountingSink final : public Sink {
 public:
  Result<Nothing> Append(const OutcomeLine& line) override {
    BOOST_REQUIRE(line.offset == static_cast<int64_t>(count));  // one each, in log order
    ++count;
    return Nothing{};
  }
  Result<Nothing> Commit() override { return Nothing{}; }
  void Drop(int32_t) override {}
  Result<std::optional<Tail>> Last(int32_t) override { return std::optional<Tail>(); }
  Result<Nothing> ReadBack(int32_t, int64_t, const Visit&) override { return Nothing{}; }

  size_t count = 0;
};

std::string ChainAt(int threads) {
  ProcessorOptions options;
  options.graph.threads = threads;
  options.graph.before_prepare = SeededDelay(static_cast<uint64_t>(threads), 64);
  options.executor.threads = static_cast<size_t>(threads);
  TemplateBackendOptions backend_options{.dimension = 0};
  backend_options.before_each_call = SeededDelay(static_cast<uint64_t>(threads) + 100, 64);
  const std::unique_ptr<Backend> backend = MakeTemplateBackend(backend_options);
  GeneratedSource source({.seed = 9, .events = kEvents, .tenants = 50});
  CountingSink sink;
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto started = std::chrono::steady_clock::now();
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE(summary.ok());
  BOOST_TEST(sink.count == kEvents);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  BOOST_TEST_MESSAGE(threads << " threads: " << kEvents / seconds.count() << " events/s");
  return Hex(summary->at(0).chain);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_million_events_make_one_chain_at_1_2_and_4_threads) {
  const std::string expected = ChainAt(1);
  for (const int threads : {2, 4}) BOOST_TEST(ChainAt(threads) == expected);
}
