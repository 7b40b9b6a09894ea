// labels: unit
// Rounds over those who wait: turns by the time that each has had, and nobody left behind.
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <string>

#include "pipeline/rounds.h"

using namespace nudge;
using namespace std::chrono_literals;

namespace {

using Queue = Rounds<std::string, int>;

// Who is served by the next `turns` turns, each of which takes what `time` says of its name.
template <class TimeOf>
std::string Serve(Queue& rounds, int turns, TimeOf&& time) {
  std::string order;
  for (int i = 0; i < turns && !rounds.empty(); ++i) {
    const std::string whose = rounds.Take().first;
    rounds.Charge(whose, time(whose));
    order += whose;
  }
  return order;
}

std::chrono::milliseconds Equal(const std::string&) {
  return 10ms;
}

void PutMany(Queue& rounds, const std::string& whose, int jobs) {
  for (int i = 0; i < jobs; ++i) rounds.Put(whose, i);
}

}  // namespace

BOOST_AUTO_TEST_CASE(jobs_of_one_come_in_the_order_in_which_they_were_put) {
  Queue rounds;
  PutMany(rounds, "a", 5);
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(rounds.First() == i);
    BOOST_TEST(rounds.Take().second == i);
    rounds.Charge("a", 1ms);
  }
  BOOST_TEST(rounds.empty());
}

BOOST_AUTO_TEST_CASE(equal_jobs_go_round) {
  Queue rounds;
  PutMany(rounds, "a", 4);
  PutMany(rounds, "b", 4);
  PutMany(rounds, "c", 2);
  BOOST_TEST(Serve(rounds, 100, Equal) == "abcabcabab");
}

BOOST_AUTO_TEST_CASE(jobs_that_take_no_time_go_round_too) {
  Queue rounds;
  PutMany(rounds, "a", 3);
  PutMany(rounds, "b", 3);
  BOOST_TEST(Serve(rounds, 100, [](const std::string&) { return 0ms; }) == "ababab");
}

BOOST_AUTO_TEST_CASE(who_comes_while_others_have_much_queued_is_next) {
  Queue rounds;
  PutMany(rounds, "a", 100);
  PutMany(rounds, "b", 100);
  Serve(rounds, 51, Equal);
  PutMany(rounds, "c", 1);
  BOOST_TEST(Serve(rounds, 2, Equal).find('c') != std::string::npos);
}

BOOST_AUTO_TEST_CASE(short_jobs_weigh_as_much_as_a_long_one) {
  Queue rounds;
  PutMany(rounds, "l", 100);
  PutMany(rounds, "s", 1000);
  const std::string order =
      Serve(rounds, 550, [](const std::string& whose) { return whose == "l" ? 100ms : 10ms; });
  const auto longs = std::count(order.begin(), order.end(), 'l');
  BOOST_TEST(longs >= 49);
  BOOST_TEST(longs <= 51);
}

BOOST_AUTO_TEST_CASE(a_very_long_job_counts_for_one_turn_only) {
  Queue rounds;
  PutMany(rounds, "l", 2);
  PutMany(rounds, "s", 100);
  rounds.Charge(rounds.Take().first, 1h);
  const std::string order = Serve(rounds, 12, [](const std::string&) { return 100ms; });
  BOOST_TEST(order.find('l') != std::string::npos);
}

BOOST_AUTO_TEST_CASE(going_away_between_two_jobs_gains_nothing) {
  Queue rounds;
  PutMany(rounds, "a", 100);
  int served = 0;
  PutMany(rounds, "b", 1);
  for (int i = 0; i < 40; ++i) {
    const std::string whose = rounds.Take().first;
    rounds.Charge(whose, 10ms);
    if (whose == "b") {
      ++served;
      PutMany(rounds, "b", 1);  // only now: it had none
    }
  }
  BOOST_TEST(served == 20);
}

BOOST_AUTO_TEST_CASE(a_pause_earns_no_claim_to_the_time_in_between) {
  Queue rounds;
  PutMany(rounds, "a", 1000);
  PutMany(rounds, "b", 1);
  Serve(rounds, 500, Equal);  // b was served once, and then paused
  PutMany(rounds, "b", 10);
  const std::string order = Serve(rounds, 20, Equal);
  BOOST_TEST(std::count(order.begin(), order.end(), 'b') == 10);
  BOOST_TEST(order.find("bb") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(two_served_at_once_are_two_who_wait) {
  Queue rounds;
  PutMany(rounds, "a", 10);
  PutMany(rounds, "b", 10);
  const std::string first = rounds.Take().first;  // no time is counted before a job ends
  const std::string second = rounds.Take().first;
  BOOST_TEST(first != second);
}

BOOST_AUTO_TEST_CASE(dropped_jobs_are_gone_and_the_rest_goes_on) {
  Queue rounds;
  PutMany(rounds, "a", 4);
  PutMany(rounds, "b", 1);
  BOOST_TEST(rounds.size() == 5U);
  const std::vector<int> dropped = rounds.Drop([](int job) { return job == 0; });
  BOOST_TEST(dropped.size() == 2U);
  BOOST_TEST(rounds.size() == 3U);
  BOOST_TEST(Serve(rounds, 100, Equal) == "aaa");
  rounds.Charge("b", 10ms);  // a job of b that ran meanwhile
  PutMany(rounds, "b", 1);
  BOOST_TEST(Serve(rounds, 1, Equal) == "b");
}
