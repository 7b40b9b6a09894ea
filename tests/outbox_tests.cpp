// labels: unit
// Cuts on their way to the state: in the log's order, and joined where one of them comes late.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <numeric>

#include "pipeline/outbox.h"
#include "tests/state_world.h"

using namespace nudge;
using namespace std::chrono_literals;
using namespace nudge::testing;

namespace {

constexpr uint64_t kEventsACut = 10;

class CountingSink final : public Sink {
 public:
  Result<Nothing> Append(const OutcomeLine&) override { return Nothing{}; }
  Result<Nothing> Commit() override { return Nothing{}; }
  void Drop(int32_t) override {}
  Result<std::optional<Tail>> Last(int32_t) override { return std::optional<Tail>(); }
  Result<Nothing> ReadBack(int32_t, int64_t, const Visit&) override { return Nothing{}; }
};

// The cut `number`, counted from 0. All of them change "all", each changes an entry of its own,
// removes that of the cut before, and puts back what the one before removed, every third time.
Cut CutOf(uint64_t number) {
  const auto own = [](uint64_t n) { return NumberName(n); };
  Changes changes = {{"t", "index/document", "all", std::to_string(number)},
                     {"t", "index/document", own(number), std::string(100, 'x')}};
  if (number >= 1) changes.push_back({"t", "index/document", own(number - 1), std::nullopt});
  if (number >= 2 && number % 3 == 0) {
    changes.push_back({"t", "index/document", own(number - 2), "back"});
  }
  const uint64_t events = (number + 1) * kEventsACut;
  return {0,
          number * kEventsACut,
          events,
          static_cast<int64_t>(events),
          Sha256(std::to_string(events)),
          std::move(changes)};
}

// A partition whose outcomes are committed and whose cuts a test adds.
class Partition {
 public:
  explicit Partition(const std::string& folder)
      : store_(folder, kIdentity, kNoBackups),
        outbox_(sink_, &store_, credits_, {},
                [](const Error& error) { BOOST_ERROR(error.message); }) {
    BOOST_REQUIRE(store_.Newest(0, 0).ok());
    const Outbox::Pause pause(outbox_);
    outbox_.Start(0, 0, 0);
  }
  void Commit(uint64_t events) {
    for (; events_ < events; ++events_) {
      BOOST_REQUIRE(credits_.Take(0, 1));
      outbox_.Add({{0, static_cast<int64_t>(events_), OutcomeKind::kApplied, "t", "{}"}, true, 1});
      if (events_ % 1'000 == 999) BOOST_REQUIRE(outbox_.Flush(30s));  // for its credits
    }
    BOOST_REQUIRE(outbox_.Flush(30s));
  }
  void Add(uint64_t number) { outbox_.AddCut(CutOf(number)); }
  // What is written, once all is that may be: cuts, and the offset of the last one.
  std::pair<uint64_t, int64_t> Written() {
    BOOST_REQUIRE(outbox_.Flush(30s));
    const DurationMetrics::Counts counts = store_.metrics().cuts.counts();
    return {std::accumulate(counts.begin(), counts.end(), uint64_t{0}),
            outbox_.positions().at(0).saved};
  }
  uint64_t written_bytes() const { return store_.metrics().cut_bytes; }

 private:
  CountingSink sink_;
  Credits credits_{CreditLimits{}};
  StateStore store_;
  Outbox outbox_;
  uint64_t events_ = 0;
};

// The state in the folder, as it is loaded.
std::vector<std::string> StateIn(const std::string& folder) {
  StateStore store(folder, kIdentity, kNoBackups);
  const auto cut = store.Newest(0, 1'000'000);
  BOOST_REQUIRE(cut.ok());
  BOOST_REQUIRE(cut->has_value());
  std::vector<std::string> state = {std::to_string((*cut)->events), Hex((*cut)->chain)};
  for (const Change& change : (*cut)->changes) state.push_back(change.id + ' ' + *change.value);
  return state;
}

// The state after the first `cuts` cuts, one after the other.
std::vector<std::string> StateAfter(uint64_t cuts) {
  const TempFolder folder;
  StateStore store(folder.path(), kIdentity, kNoBackups);
  BOOST_REQUIRE(store.Newest(0, 0).ok());
  for (uint64_t i = 0; i < cuts; ++i) BOOST_REQUIRE(store.Write(CutOf(i)).ok());
  store.Close(0);
  return StateIn(folder.path());
}

}  // namespace

BOOST_AUTO_TEST_CASE(cuts_behind_one_that_comes_late_are_written_as_one) {
  const TempFolder folder;
  {
    Partition partition(folder.path());
    partition.Commit(7 * kEventsACut);
    for (uint64_t i = 1; i < 7; ++i) partition.Add(i);
    BOOST_TEST((partition.Written() == std::pair{uint64_t{0}, int64_t{0}}));
    partition.Add(0);
    BOOST_TEST((partition.Written() == std::pair{uint64_t{2}, int64_t{70}}));
  }
  BOOST_TEST(StateIn(folder.path()) == StateAfter(7), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_state_is_the_same_in_whatever_order_cuts_become_complete) {
  constexpr uint64_t kCuts = 5;
  const std::vector<std::string> expected = StateAfter(kCuts);
  std::vector<uint64_t> order(kCuts);
  std::iota(order.begin(), order.end(), 0);
  do {
    const TempFolder folder;
    {
      Partition partition(folder.path());
      partition.Commit(kCuts * kEventsACut);
      for (const uint64_t number : order) partition.Add(number);
      BOOST_TEST(partition.Written().second == 50);
    }
    BOOST_TEST(StateIn(folder.path()) == expected, boost::test_tools::per_element());
  } while (std::next_permutation(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(a_joined_cut_forgets_if_any_of_its_parts_does) {
  for (const int which : {0, 1, 2}) {
    Cut first = CutOf(0), second = CutOf(1);
    first.forgets = which == 1;
    second.forgets = which == 2;
    Extend(first, std::move(second));
    BOOST_TEST(first.forgets == (which > 0));
  }
}

BOOST_AUTO_TEST_CASE(cuts_that_wait_for_their_outcomes_alone_stay_as_they_are) {
  const TempFolder folder;
  Partition partition(folder.path());
  for (uint64_t i = 0; i < 3; ++i) partition.Add(i);
  BOOST_TEST((partition.Written() == std::pair{uint64_t{0}, int64_t{0}}));
  partition.Commit(kEventsACut);
  BOOST_TEST((partition.Written() == std::pair{uint64_t{1}, int64_t{10}}));
  partition.Commit(3 * kEventsACut);
  BOOST_TEST((partition.Written() == std::pair{uint64_t{3}, int64_t{30}}));
}

BOOST_AUTO_TEST_CASE(what_waits_is_as_large_as_what_changed) {
  const TempFolder folder;
  constexpr uint64_t kCuts = 3'000;
  {
    Partition partition(folder.path());
    for (uint64_t i = 1; i <= kCuts; ++i) partition.Add(i);
    partition.Add(0);
    partition.Commit((kCuts + 1) * kEventsACut);
    const auto [cuts, offset] = partition.Written();
    BOOST_TEST(offset == static_cast<int64_t>((kCuts + 1) * kEventsACut));
    // The first, and those behind it in one; or in two, where they were being tidied when it came.
    BOOST_TEST((cuts == 2 || cuts == 3));
    // Of the own entries of all but the last cuts, at most "back" is left.
    BOOST_TEST(partition.written_bytes() < kCuts * 60);
  }
  // Beside events and chain: those that were put back, "all", and the last cut's own.
  const std::vector<std::string> state = StateIn(folder.path());
  BOOST_TEST(state.size() == 2 + kCuts / 3 + 2);
  BOOST_TEST(std::count(state.begin(), state.end(), "all " + std::to_string(kCuts)) == 1);
}
