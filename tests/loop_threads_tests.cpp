// labels: unit
// Every part of every loop is done once before the loop ends, by however many threads.
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "stages/model/loop_threads.h"

using namespace nudge;

BOOST_AUTO_TEST_CASE(every_part_of_many_loops_is_done_once_before_its_loop_ends) {
  for (const size_t threads : {1, 2, 5}) {
    LoopThreads loops(threads);
    BOOST_TEST(loops.threads() == threads);
    const ParallelFor parallel = loops.For();
    for (int loop = 0; loop < 2'000; ++loop) {
      std::vector<int> done(static_cast<size_t>(loop % 40), 0);
      parallel(static_cast<int>(done.size()), [&](int part) { ++done[static_cast<size_t>(part)]; });
      BOOST_REQUIRE(std::accumulate(done.begin(), done.end(), size_t{0}) == done.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(several_threads_take_parts_and_those_that_sleep_wake_for_the_next_loop) {
  LoopThreads loops(3);
  for (int loop = 0; loop < 2; ++loop) {
    std::atomic<int> inside{0};
    // Ends only once three threads are in it at once.
    loops.Run(3, [&](int) {
      ++inside;
      while (inside < 3) std::this_thread::yield();
    });
    BOOST_TEST(inside == 3);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

BOOST_AUTO_TEST_CASE(threads_that_never_had_a_part_end_with_their_owner) {
  for (int i = 0; i < 200; ++i) {
    LoopThreads loops(4);
    if (i % 2 == 0) loops.Run(2, [](int) {});
  }
}
