// labels: graph
// A run whose state is gone repeats its log from the outcomes, a part of them at a time.
#include <boost/test/unit_test.hpp>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"

using namespace nudge;

namespace {

constexpr size_t kEvents = 300;

std::vector<std::string> Lines() {
  return EventGenerator({.seed = 9, .events = kEvents}).All();
}

// Without a state folder: every run begins at the log's beginning.
Result<std::map<int32_t, PartitionSummary>> Run(std::vector<std::string> lines, Sink& sink,
                                                uint64_t read_back_bytes) {
  ProcessorOptions options;
  options.credits.events = 16;
  options.read_back_bytes = read_back_bytes;
  MemorySource source(std::move(lines));
  const std::unique_ptr<Backend> backend = MakeTemplateBackend({.dimension = 8});
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  return processor.Run(stop);
}

// Counts how often it is read back.
class CountingSink final : public Sink {
 public:
  Result<Nothing> Append(const OutcomeLine& line) override { return sink.Append(line); }
  Result<Nothing> Commit() override { return sink.Commit(); }
  void Drop(int32_t partition) override { sink.Drop(partition); }
  Result<std::optional<Tail>> Last(int32_t partition) override { return sink.Last(partition); }
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override {
    ++read_backs;
    return sink.ReadBack(partition, offset, visit);
  }

  MemorySink sink;
  int read_backs = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(outcomes_that_do_not_fit_into_memory_are_read_back_in_parts) {
  std::vector<std::string> first_half = Lines();
  first_half.resize(kEvents / 2);
  CountingSink sink;
  BOOST_REQUIRE(Run(first_half, sink, 1 << 20).ok());
  const size_t committed = sink.sink.lines().size();
  BOOST_REQUIRE(committed == kEvents / 2);

  sink.read_backs = 0;
  constexpr uint64_t kAFewOutcomes = 4'000;
  const auto summary = Run(Lines(), sink, kAFewOutcomes);
  BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
  BOOST_TEST(sink.read_backs > 10);
  BOOST_TEST(sink.sink.lines().size() == kEvents);

  MemorySink undisturbed;
  const auto expected = Run(Lines(), undisturbed, 1 << 20);
  BOOST_REQUIRE(expected.ok());
  BOOST_TEST(Hex(summary->at(0).chain) == Hex(expected->at(0).chain));
}

BOOST_AUTO_TEST_CASE(an_input_that_ends_before_its_outcomes_is_refused_in_every_part) {
  MemorySink sink;
  BOOST_REQUIRE(Run(Lines(), sink, 1 << 20).ok());
  for (const size_t left : {size_t{0}, size_t{1}, kEvents / 2, kEvents - 1}) {
    std::vector<std::string> shorter = Lines();
    shorter.resize(left);
    const auto summary = Run(shorter, sink, 4'000);
    BOOST_REQUIRE(!summary.ok());
    BOOST_TEST(summary.error().message.find("the input ends before offset " + std::to_string(left) +
                                            " of partition 0") == 0u,
               summary.error().message);
  }
  BOOST_TEST(sink.lines().size() == kEvents);
}
