// labels: graph
// Partitions that come and go while others run: every event keeps its one outcome, and the chain of
// each partition is that of a run in which nothing was ever taken away.
#include <boost/test/unit_test.hpp>

#include <condition_variable>
#include <map>
#include <set>
#include <thread>

#include "connectors/memory.h"
#include "pipeline/bench/event_generator.h"
#include "pipeline/processor.h"
#include "stages/model/template_backend.h"
#include "tests/scripted_source.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr int32_t kPartitions = 3;
constexpr size_t kEvents = 200;  // of each partition

std::map<int32_t, std::vector<std::string>> Lines() {
  std::map<int32_t, std::vector<std::string>> lines;
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    lines[partition] =
        EventGenerator({.seed = 20 + static_cast<uint64_t>(partition), .events = kEvents}).All();
  }
  return lines;
}

ProcessorOptions Options(const std::string& state_folder) {
  ProcessorOptions options;
  options.executor.snapshot_folder = "snapshots";
  options.adapt.snapshot_every_versions = 5;
  options.credits.events = 32;
  options.checkpoint_every_events = 17;
  options.state_folder = state_folder;
  return options;
}

// Up to 300 us for every call: long enough that something is always on its way.
TemplateBackendOptions SlowBackend(uint64_t seed) {
  TemplateBackendOptions options{.dimension = 8};
  auto counter = std::make_shared<std::atomic<uint64_t>>(0);
  options.before_each_call = [=] {
    const uint64_t value = RandomAt(seed, counter->fetch_add(1));
    std::this_thread::sleep_for(std::chrono::microseconds(value % 300));
  };
  return options;
}

std::map<int32_t, PartitionSummary> Run(const ProcessorOptions& options,
                                        const TemplateBackendOptions& backend_options, Sink& sink,
                                        std::vector<Act> acts) {
  ScriptedSource source(Lines(), std::move(acts));
  const std::unique_ptr<Backend> backend = MakeTemplateBackend(backend_options);
  Processor processor(options, {}, *backend, source, sink);
  const std::atomic<bool> stop{false};
  auto summary = processor.Run(stop);
  BOOST_REQUIRE_MESSAGE(summary.ok(), (summary.ok() ? "" : summary.error().message));
  return std::move(*summary);
}

// The chain of each partition in a run without any change of owners.
std::map<int32_t, std::string> Expected() {
  std::vector<Act> acts;
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    acts.emplace_back(Assign{partition});
    acts.emplace_back(Deliver{partition, kEvents});
  }
  MemorySink sink;
  std::map<int32_t, std::string> chains;
  for (const auto& [partition, summary] : Run(Options(""), {.dimension = 8}, sink, acts)) {
    chains[partition] = Hex(summary.chain);
  }
  return chains;
}

// Every offset of every partition once, in order, and the chain that nobody disturbed.
void CheckLog(const MemorySink& sink, const std::map<int32_t, std::string>& expected) {
  std::map<int32_t, std::string> chains;
  std::map<int32_t, int64_t> next;
  for (const OutcomeLine& line : sink.lines()) {
    BOOST_TEST(line.offset == next[line.partition]++);
    chains[line.partition] = std::string(ChainOf(line.bytes));
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    BOOST_TEST(next[partition] == static_cast<int64_t>(kEvents));
    BOOST_TEST(chains[partition] == expected.at(partition), "chain of partition " << partition);
  }
}

// Acts that take partitions away and give them back at random, with events in between.
std::vector<Act> RandomActs(uint64_t seed, bool lose) {
  std::vector<Act> acts;
  std::set<int32_t> owned;
  for (uint64_t step = 0; step < 60; ++step) {
    const auto partition = static_cast<int32_t>(RandomAt(seed, 3 * step) % kPartitions);
    const uint64_t dice = RandomAt(seed, 3 * step + 1) % 10;
    if (!owned.contains(partition)) {
      acts.emplace_back(Assign{partition});
      owned.insert(partition);
    } else if (dice < 3) {
      if (lose && dice == 0) {
        acts.emplace_back(Lose{partition});
      } else {
        acts.emplace_back(Revoke{partition});
      }
      owned.erase(partition);
    } else {
      acts.emplace_back(Deliver{partition, RandomAt(seed, 3 * step + 2) % 40});
    }
  }
  for (int32_t partition = 0; partition < kPartitions; ++partition) {
    if (!owned.contains(partition)) acts.emplace_back(Assign{partition});
    acts.emplace_back(Deliver{partition, kEvents});
  }
  return acts;
}

}  // namespace

BOOST_AUTO_TEST_CASE(partitions_that_come_and_go_leave_no_trace_in_the_log) {
  const auto expected = Expected();
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      const TempFolder folder;
      ProcessorOptions options = Options(folder.path() + "/state");
      // Some hand-overs finish what is inside, others leave it to the next owner.
      options.hand_over = std::chrono::milliseconds(seed % 3 == 0 ? 1000 : seed % 3);
      MemorySink sink;
      Run(options, SlowBackend(seed), sink, RandomActs(seed, seed % 2 == 0));
      CheckLog(sink, expected);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_partition_moves_to_another_process_with_its_state) {
  const auto expected = Expected();
  const TempFolder folder;
  ProcessorOptions options = Options(folder.path() + "/state");
  MemorySink sink;
  Run(options, SlowBackend(7), sink,
      {Assign{0}, Assign{1}, Assign{2}, Deliver{0, 50}, Deliver{1, 120}, Deliver{2, 70}, Revoke{1},
       Deliver{0, kEvents}, Deliver{2, 10}, Lose{2}});
  Run(options, SlowBackend(8), sink,
      {Assign{1}, Deliver{1, kEvents}, Assign{2}, Deliver{2, kEvents}});
  CheckLog(sink, expected);
}

BOOST_AUTO_TEST_CASE(a_sink_that_is_no_owner_any_more_keeps_the_lines_of_the_others) {
  // From `moving` on the sink refuses commits with lines of partition 1, until it is told to drop
  // it.
  class MovingSink final : public Sink {
   public:
    Result<Nothing> Append(const OutcomeLine& line) override {
      if (line.partition == 1) moving_lines_ = true;
      return inner.Append(line);
    }
    Result<Nothing> Commit() override {
      if (moving && moving_lines_) {
        refused = true;
        return Error{Code::kNotOwner, "partitions are moving", ""};
      }
      moving_lines_ = false;
      return inner.Commit();
    }
    void Drop(int32_t partition) override {
      if (partition == 1) moving = moving_lines_ = false;
      inner.Drop(partition);
    }
    Result<std::optional<Tail>> Last(int32_t partition) override { return inner.Last(partition); }
    Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override {
      return inner.ReadBack(partition, offset, visit);
    }

    MemorySink inner;
    std::atomic<bool> moving{false};
    std::atomic<bool> refused{false};

   private:
    bool moving_lines_ = false;
  };
  MovingSink sink;
  const TempFolder folder;
  Run(Options(folder.path() + "/state"), SlowBackend(9), sink,
      {Assign{0}, Assign{1}, Assign{2}, Deliver{2, kEvents}, Deliver{0, 10}, Deliver{1, 10},
       Until{[&] { return sink.moving = true; }}, Deliver{1, 10}, Deliver{0, 10},
       Until{[&] { return sink.refused.load(); }}, Lose{1}, Deliver{0, kEvents}, Assign{1},
       Deliver{1, kEvents}});
  CheckLog(sink.inner, Expected());
}

BOOST_AUTO_TEST_CASE(a_partition_without_credits_does_not_stop_the_others) {
  // The first answers of partition 1 wait until partition 0 is done; its credits run out long
  // before.
  std::mutex mutex;
  std::condition_variable changed;
  bool released = false;
  class ReleasingSink final : public Sink {
   public:
    ReleasingSink(std::mutex& release_mutex, std::condition_variable& release, bool& flag)
        : mutex_(release_mutex), release_(release), released_(flag) {}
    Result<Nothing> Append(const OutcomeLine& line) override {
      if (line.partition == 0 && line.offset + 1 == static_cast<int64_t>(kEvents)) {
        const std::lock_guard lock(mutex_);
        released_ = true;
        release_.notify_all();
      }
      return inner_.Append(line);
    }
    Result<Nothing> Commit() override { return inner_.Commit(); }
    void Drop(int32_t partition) override { inner_.Drop(partition); }
    Result<std::optional<Tail>> Last(int32_t partition) override { return inner_.Last(partition); }
    Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override {
      return inner_.ReadBack(partition, offset, visit);
    }

   private:
    MemorySink inner_;
    std::mutex& mutex_;
    std::condition_variable& release_;
    bool& released_;
  };
  ReleasingSink sink(mutex, changed, released);
  TemplateBackendOptions backend{.dimension = 8};
  std::atomic<bool> blocking{true};
  bool in_time = true;
  backend.before_each_call = [&] {
    if (!blocking.exchange(false)) return;  // the very first call: it is partition 1's
    std::unique_lock lock(mutex);
    in_time = changed.wait_for(lock, std::chrono::seconds(60), [&] { return released; });
  };
  ProcessorOptions options = Options("");
  options.executor.threads = 2;
  const auto summary =
      Run(options, backend, sink,
          {Assign{0}, Assign{1}, Deliver{1, 33}, Deliver{0, kEvents}, Deliver{1, kEvents}});
  BOOST_TEST(in_time);
  BOOST_TEST(summary.at(0).events == kEvents);
  BOOST_TEST(summary.at(1).events == kEvents);
}
