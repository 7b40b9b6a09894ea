// A call into a library that has to come back, and what happens if it does not.
//
//   calling thread -> [BoundedCall, for as long as the call takes] <- one thread that watches all
//
// Libraries have time limits and do not always keep them, and a thread that stands inside of one
// cannot be freed. So past a limit of our own the process says which call stood for how long and
// what to do, and ends with kExitStuck. It ends as if it had been killed, which is
// safe: what is committed stands, and a process that is started again goes on from there.
//
// For calls that may wait. Those that take what is at hand (librdkafka's with a time limit of 0)
// go without where they come once a record: they cost less than the look-out.
//
// Any thread, one inside of another too. Costs a lock when it begins and ends; no thread is woken
// unless it is the first to be over.
#pragma once

#include <chrono>
#include <map>

namespace nudge {

class BoundedCall {
 public:
  using Clock = std::chrono::steady_clock;

  // `name` is the library's own, `remedy` what to do beside giving the command again; literals.
  // NUDGE_STAND_IN=NAME:N in the environment makes the Nth
  // call of that name (1, 2, ...) stand here for ever, as a defect of the library would: for tests.
  BoundedCall(const char* name, Clock::duration limit,
              const char* remedy = "see whether the brokers are well");
  ~BoundedCall();
  BoundedCall(const BoundedCall&) = delete;
  BoundedCall& operator=(const BoundedCall&) = delete;

 private:
  friend class CallWatch;
  using ByEnd = std::multimap<Clock::time_point, BoundedCall*>;

  const char* const name_;
  const char* const remedy_;
  const Clock::time_point begun_;
  bool is_late_ = false;  // these two are the watching thread's, under its lock
  ByEnd::iterator place_;
};

}  // namespace nudge
