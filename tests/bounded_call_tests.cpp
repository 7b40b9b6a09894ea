// labels: unit
// A call into a library that does not return, and those that do.
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "connectors/bounded_call.h"
#include "stages/exit_code.h"

using nudge::BoundedCall;

namespace {

using Milliseconds = std::chrono::milliseconds;

struct End {
  int status = 0;
  std::string said;
};

// How a process ends that does this, and what it says on standard error.
template <class Body>
End EndOf(const Body& body) {
  int ends[2];
  BOOST_REQUIRE_EQUAL(pipe(ends), 0);
  const pid_t child = fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    body();
    std::_Exit(0);
  }
  close(ends[1]);
  End end;
  char buffer[512];
  for (ssize_t count = 0; (count = read(ends[0], buffer, sizeof buffer)) > 0;) {
    end.said.append(buffer, static_cast<size_t>(count));
  }
  close(ends[0]);
  BOOST_REQUIRE_EQUAL(waitpid(child, &end.status, 0), child);
  return end;
}

void Sleep(int milliseconds) {
  std::this_thread::sleep_for(Milliseconds(milliseconds));
}

}  // namespace

// Each case runs in a process of its own, which must be the first to make a call: a child of fork
// has no watching thread but its own.
BOOST_AUTO_TEST_CASE(a_call_that_does_not_return_ends_the_process_with_its_name) {
  const auto begun = std::chrono::steady_clock::now();
  const End end = EndOf([] {
    const BoundedCall call("some_call", Milliseconds(200));
    Sleep(60'000);
  });
  BOOST_REQUIRE(WIFEXITED(end.status));
  BOOST_TEST(WEXITSTATUS(end.status) == nudge::kExitStuck);
  BOOST_TEST(end.said.find("some_call has stood for 1 s") != end.said.npos, end.said);
  BOOST_TEST((std::chrono::steady_clock::now() - begun < std::chrono::seconds(30)));
}

BOOST_AUTO_TEST_CASE(of_several_calls_the_one_that_is_over_is_named) {
  const End end = EndOf([] {
    const BoundedCall outer("outer_call", std::chrono::seconds(60));
    for (int i = 0; i < 1'000; ++i) const BoundedCall quick("quick_call", Milliseconds(5));
    std::thread other([] {
      const BoundedCall call("other_call", Milliseconds(100));
      Sleep(60'000);
    });
    const BoundedCall inner("inner_call", std::chrono::seconds(60));
    Sleep(60'000);
  });
  BOOST_REQUIRE(WIFEXITED(end.status));
  BOOST_TEST(WEXITSTATUS(end.status) == nudge::kExitStuck);
  BOOST_TEST(end.said.find("other_call") != end.said.npos, end.said);
}

BOOST_AUTO_TEST_CASE(calls_that_return_in_time_end_nothing) {
  const End end = EndOf([] {
    std::thread other([] {
      for (int i = 0; i < 200; ++i) {
        const BoundedCall call("other_call", std::chrono::seconds(5));
        Sleep(5);
      }
    });
    for (int i = 0; i < 20; ++i) {
      const BoundedCall outer("outer_call", std::chrono::seconds(5));
      const BoundedCall inner("inner_call", std::chrono::seconds(5));
      Sleep(50);
    }
    other.join();
  });
  BOOST_TEST(end.status == 0, end.said);
  BOOST_TEST(end.said.empty(), end.said);
}

// A process that was stopped finds its limits over when it goes on, and its calls then return.
BOOST_AUTO_TEST_CASE(a_process_that_was_stopped_itself_is_not_blamed) {
  const End end = EndOf([] {
    const pid_t self = getpid();
    const pid_t waker = fork();
    if (waker == 0) {
      close(STDERR_FILENO);
      Sleep(1'500);
      kill(self, SIGCONT);
      std::_Exit(0);
    }
    {
      const BoundedCall call("some_call", Milliseconds(300));
      raise(SIGSTOP);
      Sleep(100);
    }
    waitpid(waker, nullptr, 0);
    Sleep(1'500);
  });
  BOOST_TEST(end.status == 0, end.said);
  BOOST_TEST(end.said.empty(), end.said);
}

BOOST_AUTO_TEST_CASE(a_test_may_have_the_nth_call_of_a_name_stand) {
  const End end = EndOf([] {
    setenv("NUDGE_STAND_IN", "some_call:3", 1);
    for (int i = 1; i <= 2; ++i) const BoundedCall call("some_call", Milliseconds(50));
    for (int i = 1; i <= 9; ++i) const BoundedCall call("another_call", Milliseconds(50));
    const BoundedCall call("some_call", Milliseconds(50));
  });
  BOOST_REQUIRE(WIFEXITED(end.status));
  BOOST_TEST(WEXITSTATUS(end.status) == nudge::kExitStuck);
  BOOST_TEST(end.said.find("some_call") != end.said.npos, end.said);
}
