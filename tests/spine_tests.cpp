// labels: graph
// The engine with the template backend: one chain, whatever the threads, the timing and the stops.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <thread>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/seeded_delay.h"
#include "tests/temp_folder.h"

using namespace nudge;

using nudge::testing::SeededDelay;
using nudge::testing::TempFolder;

namespace {

struct Run {
  std::string chain;
  uint64_t events = 0;
  std::vector<std::string> learners;  // digest of each tenant's last version
};

ProcessorOptions Options(int threads) {
  ProcessorOptions options;
  options.graph.threads = threads;
  options.executor.threads = static_cast<size_t>(threads);
  options.executor.snapshot_folder = "snapshots";
  options.adapt.snapshot_every_versions = 5;
  options.prompt.presets = {{"greedy", {}}, {"warm", {0.7, 0.9, 40, 64}}};
  options.prompt.few_shot_min_similarity = 0.5;
  options.credits.events = 64;
  options.checkpoint_every_events = 37;
  return options;
}

Run Process(const ProcessorOptions& options, Source& source, Sink& sink,
            const TemplateBackendOptions& backend_options = {.dimension = 8, .instant = false},
            size_t tenants = 4) {
  const std::unique_ptr<Backend> backend = MakeTemplateBackend(backend_options);
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  const auto summary = processor.Run(stop);
  BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
  Run run{Hex(summary->at(0).chain), summary->at(0).events, {}};
  for (size_t tenant = 0; tenant < tenants; ++tenant) {
    const auto latest = processor.executor().Latest(0, "tenant-" + std::to_string(tenant));
    run.learners.push_back(latest ? latest->digest : "base");
  }
  return run;
}

Run ProcessAll(const ProcessorOptions& options, const std::vector<std::string>& lines,
               const TemplateBackendOptions& backend_options = {.dimension = 8, .instant = false}) {
  MemorySource source(lines);
  MemorySink sink;
  return Process(options, source, sink, backend_options);
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_event_has_exactly_one_outcome) {
  const auto lines = EventGenerator({}).All();
  MemorySource source(lines);
  MemorySink sink;
  const Run run = Process(Options(2), source, sink);
  BOOST_TEST(run.events == lines.size());
  BOOST_TEST(sink.lines().size() == lines.size());
  int64_t offset = 0;
  for (const OutcomeLine& line : sink.lines()) {
    BOOST_TEST(line.offset == offset++);
    BOOST_TEST(DecodeOutcome(line.bytes).ok());
  }
}

BOOST_AUTO_TEST_CASE(threads_and_delays_do_not_change_the_chain) {
  const auto lines = EventGenerator({.seed = 2, .events = 3000}).All();
  const Run expected =
      ProcessAll(Options(1), lines, {.dimension = 8});  // no thread but the graph's
  for (const int threads : {1, 2, 4}) {
    TemplateBackendOptions backend{.dimension = 8};
    backend.before_each_call = SeededDelay(static_cast<uint64_t>(threads));
    ProcessorOptions options = Options(threads);
    options.graph.before_prepare = SeededDelay(static_cast<uint64_t>(threads) + 100);
    const Run run = ProcessAll(options, lines, backend);
    BOOST_TEST(run.chain == expected.chain);
    BOOST_TEST(run.learners == expected.learners, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(a_stop_after_any_event_is_not_seen_in_the_chain_or_in_the_learners) {
  const auto lines = EventGenerator({.seed = 3, .events = 300}).All();
  const Run expected = ProcessAll(Options(2), lines);
  for (size_t stop_after = 0; stop_after <= lines.size(); ++stop_after) {
    const TempFolder folder;
    ProcessorOptions options = Options(2);
    options.state_folder = folder.path() + "/state";
    options.checkpoint_at_end = false;  // a stop that nobody prepared: state is at the last barrier
    MemorySink sink;
    MemorySource first({lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(stop_after)});
    Process(options, first, sink);
    BOOST_TEST(sink.lines().size() == stop_after);
    MemorySource all(lines);
    const Run run = Process(options, all, sink);
    BOOST_TEST(run.chain == expected.chain, "stopped after " << stop_after);
    BOOST_TEST(run.learners == expected.learners, boost::test_tools::per_element());
    BOOST_TEST(sink.lines().size() == lines.size());
  }
}

BOOST_AUTO_TEST_CASE(a_clean_stop_at_any_barrier_goes_on_from_there) {
  const auto lines = EventGenerator({.seed = 4, .events = 300}).All();
  const Run expected = ProcessAll(Options(2), lines);
  const TempFolder folder;
  MemorySink sink;
  for (size_t end = 37; end < lines.size() + 37; end += 37) {
    ProcessorOptions options = Options(2);
    options.state_folder = folder.path() + "/state";
    MemorySource source(
        {lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(std::min(end, lines.size()))});
    const Run run = Process(options, source, sink);
    if (end >= lines.size()) BOOST_TEST(run.chain == expected.chain);
    if (end >= lines.size()) {
      BOOST_TEST(run.learners == expected.learners, boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(another_input_under_the_same_output_is_a_divergence) {
  const auto lines = EventGenerator({.seed = 5, .events = 50}).All();
  const auto changed = EventGenerator({.seed = 6, .events = 80}).All();
  // Many times: the run must end whatever is on its way through the graph when the failure is seen.
  for (int attempt = 0; attempt < 50; ++attempt) {
    const TempFolder folder;
    ProcessorOptions options = Options(2);
    options.state_folder = folder.path() + "/state";
    options.checkpoint_at_end = false;
    MemorySink sink;
    MemorySource first(lines);
    Process(options, first, sink);
    MemorySource other(changed);
    const std::unique_ptr<Backend> backend =
        MakeTemplateBackend({.dimension = 8, .instant = false});
    Processor processor(options, {}, *backend, other, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    BOOST_REQUIRE(!summary.ok());
    BOOST_TEST(summary.error().message.find("replay_divergence") == 0);
    BOOST_TEST(sink.lines().size() == lines.size());
  }
}

BOOST_AUTO_TEST_CASE(feedback_that_comes_faster_than_it_is_learnt_slows_its_source) {
  // One question, then feedback about it: every lesson waits for the first, which waits for us.
  std::vector<std::string> lines;
  Event event;
  event.source = "test";
  event.tenant = "tenant-0";
  event.id = "question";
  event.data = Query{"how long is the pier", {}};
  lines.push_back(EncodeEvent(event));
  for (int i = 0; i < 200; ++i) {
    event.id = "feedback-" + std::to_string(i);
    event.data = Feedback{"question", "", {}, {}, "answer " + std::to_string(i), {}};
    lines.push_back(EncodeEvent(event));
  }
  ProcessorOptions options = Options(2);
  options.credits.events = 10;
  options.adapt.snapshot_every_versions = 0;
  const Run expected = ProcessAll(options, lines);

  options.executor.lessons_waiting_max = 20;
  std::atomic<bool> released{false};
  ProcessorHooks hooks;
  hooks.on_lesson = [&](const LessonEvent&) { released.wait(false); };
  MemorySource source(lines);
  MemorySink sink;
  const std::unique_ptr<Backend> backend = MakeTemplateBackend({.dimension = 8, .instant = false});
  Processor processor(options, hooks, *backend, source, sink);
  const std::atomic<bool> stop{false};
  std::string chain;
  std::thread run([&] {
    const auto summary = processor.Run(stop);
    if (summary.ok()) chain = Hex(summary->at(0).chain);
  });
  // It comes to rest with the lessons that may wait and those that the credits admit; where nothing
  // holds it back all 201 outcomes are out in this time.
  uint64_t before = 0;
  for (int still = 0; still < 10;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const uint64_t now = processor.progress().outcomes;
    still = now == before && now > 0 ? still + 1 : 0;
    before = now;
  }
  BOOST_TEST(before <= 1U + 20U);
  BOOST_TEST(processor.executor().lessons_left() <= 20U + 10U);
  released = true;
  released.notify_all();
  run.join();
  BOOST_TEST(chain == expected.chain);
  BOOST_TEST(sink.lines().size() == lines.size());
}
