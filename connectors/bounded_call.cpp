#include "connectors/bounded_call.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
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

[[noreturn]] void End(std::string_view name, BoundedCall::Clock::duration stood) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(stood).count();
  Log(LogLevel::kError, "a call into a library did not return: " + std::string(name) +
                            " has stood for " + std::to_string(seconds) +
                            " s, longer than it may: what is committed stands: give the same "
                            "command again, and see whether the brokers are well");
  std::_Exit(kExitStuck);
}

}  // namespace

class CallWatch {
 public:
  // Lives as long as the process: what ends late may still make calls.
  static CallWatch& Get() {
    static CallWatch& watch = *new CallWatch;
    return watch;
  }

  void Add(BoundedCall& call, BoundedCall::Clock::time_point end) {
    const MutexLock lock(mutex_);
    call.place_ = calls_.emplace(end, &call);
    if (end < wakes_) changed_.NotifyOne();
  }

  void Remove(BoundedCall& call) {
    const MutexLock lock(mutex_);
    calls_.erase(call.place_);
  }

 private:
  using Clock = BoundedCall::Clock;

  CallWatch() {
    std::thread([this] { Work(); }).detach();
  }

  [[noreturn]] void Work() {
    pthread_setname_np(pthread_self(), "deadlines");
    const MutexLock lock(mutex_);
    while (true) {
      if (calls_.empty()) {
        wakes_ = Clock::time_point::max();
        changed_.WaitOnce(mutex_);
        continue;
      }
      const auto [end, call] = *calls_.begin();
      const auto now = Clock::now();
      if (now < end) {
        wakes_ = end;
        changed_.WaitUntil(mutex_, end, [&]() REQUIRES(mutex_) {
          return calls_.empty() || calls_.begin()->first < end;
        });
        continue;
      }
      if (call->is_late_) End(call->name_, now - call->begun_);
      call->is_late_ = true;
      calls_.erase(call->place_);
      call->place_ = calls_.emplace(now + kSecondLook, call);
    }
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

BoundedCall::BoundedCall(const char* name, Clock::duration limit)
    : name_(name), begun_(Clock::now()) {
  CallWatch::Get().Add(*this, begun_ + limit);
  MayStand(name);
}

BoundedCall::~BoundedCall() {
  CallWatch::Get().Remove(*this);
}

}  // namespace nudge
