// labels: unit
// A value that comes later: who waits for it is called once, or let go of, and never kept for ever.
#include <boost/test/unit_test.hpp>

#include <memory>
#include <vector>

#include "pipeline/later.h"

using namespace nudge;

BOOST_AUTO_TEST_CASE(continuations_run_in_the_order_in_which_they_came) {
  Later<int> later;
  std::vector<int> seen;
  later.When([&](int value) { seen.push_back(value); });
  later.When([&](int value) { seen.push_back(value + 1); });
  BOOST_TEST(!later.IsThere());
  later.Resolve(5);
  later.When([&](int value) { seen.push_back(value + 2); });
  BOOST_TEST(seen == (std::vector<int>{5, 6, 7}), boost::test_tools::per_element());
  BOOST_TEST(later.Get() == 5);
}

BOOST_AUTO_TEST_CASE(what_waits_for_a_dropped_job_is_let_go_whether_it_came_before_or_after) {
  const auto later = std::make_shared<Later<int>>();
  const auto before = std::make_shared<int>(0);
  const auto after = std::make_shared<int>(0);
  later->When([later, before](int) { BOOST_ERROR("called"); });
  OwnWaiting(later).reset();
  BOOST_TEST(before.use_count() == 1);
  // It would hold itself through the value that it waits for.
  later->When([later, after](int) { BOOST_ERROR("called"); });
  BOOST_TEST(after.use_count() == 1);
  BOOST_TEST(later.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(a_job_that_has_resolved_its_value_takes_nothing_back_by_its_end) {
  const auto later = std::make_shared<Later<int>>();
  std::shared_ptr<void> owner = OwnWaiting(later);
  later->Resolve(3);
  owner.reset();
  int seen = 0;
  later->When([&](int value) { seen = value; });
  BOOST_TEST(seen == 3);
}
