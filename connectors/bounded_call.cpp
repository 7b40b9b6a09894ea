#include "connectors/bounded_call.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

#include "stages/exit_code.h"
#include "stages/guarded.h"
#include "stages/log.h"

namespace nudge {
namespace {

// A call is late only if it has not come back this long after it was found over: a process that was
// itself stopped for a while (a debugger, a sleeping machine) finds all its limits over at once.
constexpr std::chrono::seconds kSecondLook{1};

// Whoever stands may keep others from saying anything: then a signal ends the process.
constexpr unsigned kLastWordsSeconds = 5;

[[noreturn]] void End(std::string_view name, BoundedCall::Clock::duration stood,
                      std::string_view remedy) {
  std::signal(SIGALRM, SIG_DFL);
  alarm(kLastWordsSeconds);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(stood).count();
  Log(LogLevel::kError, "a call into a library did not return: " + std::string(name) +
                            " has stood for " + std::to_string(seconds) +
                            " s, longer than it may: what is committed stands: give the same "
                            "command again, and " +
                            std::string(remedy));
  std::_Exit(kExitStuck);
}

}  // namespace

class CallWatch {
 public:
  using Clock = BoundedCall::Clock;

  // Lives as long as the process: what ends late may still make calls.
  static CallWatch& Get() {
    static CallWatch& watch = *new CallWatch;
    return watch;
  }

  void Add(BoundedCall& call, Clock::time_point end) {
    const MutexLock lock(mutex_);
    call.place_ = calls_.emplace(end, &call);
    if (end < wakes_) changed_.NotifyOne();
  }

  void Remove(BoundedCall& call) {
    const MutexLock lock(mutex_);
    calls_.erase(call.place_);
  }

 private:
  CallWatch() {
    std::thread([this] { Work(); }).detach();
  }

  [[noreturn]] void Work() {
    pthread_setname_np(pthread_self(), "deadlines");
    const MutexLock lock(mutex_);
    while (true) {
      wakes_ = Clock::time_point::max();
      changed_.Wait(mutex_, [&]() REQUIRES(mutex_) { return !calls_.empty(); });
      const auto end = wakes_ = calls_.begin()->first;
      const bool is_another_first = changed_.WaitUntil(mutex_, end, [&]() REQUIRES(mutex_) {
        return calls_.empty() || calls_.begin()->first != end;
      });
      if (!is_another_first) Look(*calls_.begin()->second);
    }
  }

  // At a call that is over.
  void Look(BoundedCall& call) REQUIRES(mutex_) {
    const auto now = Clock::now();
    if (call.is_late_) End(call.name_, now - call.begun_, call.remedy_);
    call.is_late_ = true;
    calls_.erase(call.place_);
    call.place_ = calls_.emplace(now + kSecondLook, &call);
  }

  Mutex mutex_;
  CondVar changed_;
  BoundedCall::ByEnd calls_ GUARDED_BY(mutex_);
  Clock::time_point wakes_ GUARDED_BY(mutex_) = Clock::time_point::max();
};

namespace {

// Where NUDGE_STAND_IN says so.
void MayStand(std::string_view name) {
  static const char* const asked = std::getenv("NUDGE_STAND_IN");
  if (asked == nullptr) return;
  static std::atomic<int> left = [] {
    const std::string_view text(asked);
    const size_t colon = text.find(':');
    return colon == text.npos ? 1 : std::atoi(asked + colon + 1);
  }();
  const std::string_view text(asked);
  if (text.substr(0, text.find(':')) != name || left.fetch_sub(1) != 1) return;
  while (true) pause();
}

}  // namespace

BoundedCall::BoundedCall(const char* name, Clock::duration limit, const char* remedy)
    : name_(name), remedy_(remedy), begun_(Clock::now()) {
  CallWatch::Get().Add(*this, begun_ + limit);
  MayStand(name);
}

BoundedCall::~BoundedCall() {
  CallWatch::Get().Remove(*this);
}

}  // namespace nudge
