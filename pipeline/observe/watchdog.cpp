#include "pipeline/observe/watchdog.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLongestPause{1'000};
constexpr std::chrono::milliseconds kShortestPause{10};

double Seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string Whole(double seconds) {
  return std::to_string(static_cast<int64_t>(seconds)) + " s";
}

}  // namespace

Watchdog::Watchdog(WatchdogOptions options, Callbacks callbacks)
    : options_(options), callbacks_(std::move(callbacks)) {}

Watchdog::~Watchdog() {
  Stop();
}

void Watchdog::Start() {
  if (options_.silent.count() == 0 && options_.poll.count() == 0) return;
  thread_ = std::thread([this] { Work(); });
}

void Watchdog::Stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    view_.silent.clear();
    view_.late_poll.clear();
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

RunView::Watch Watchdog::view() const {
  const MutexLock lock(mutex_);
  return view_;
}

void Watchdog::Work() {
  std::chrono::milliseconds every = kLongestPause;
  for (const auto limit : {options_.silent, options_.poll}) {
    if (limit.count() > 0) every = std::min(every, std::max(limit / 4, kShortestPause));
  }
  const Time begun = Clock::now();
  polled_ = begun;
  MutexLock lock(mutex_);
  while (!changed_.WaitFor(mutex_, every, [&]() REQUIRES(mutex_) { return stopping_; })) {
    lock.Unlock();
    const Time now = Clock::now();
    coarse_ms_.store(
        static_cast<uint32_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(now - begun).count()),
        std::memory_order_relaxed);
    const Look look = callbacks_.look();
    if (options_.silent.count() > 0) Compare(look, now);
    ComparePolls(look, now);
    lock.Lock();
  }
}

void Watchdog::Compare(const Look& look, Time now) {
  std::erase_if(progress_, [&](const auto& one) { return !look.partitions.contains(one.first); });
  std::vector<RunView::Silence> silent;
  uint64_t alarms = 0;
  for (const auto& [number, partition] : look.partitions) {
    const auto [found, is_new] =
        progress_.try_emplace(number, Progress{partition.committed_offset, now, false});
    Progress& progress = found->second;
    if (partition.in_flight_events == 0 ||
        partition.committed_offset != progress.committed_offset) {
      if (progress.said) {
        callbacks_.say("partition " + std::to_string(number) + " goes on after " +
                       Whole(Seconds(now - progress.since)));
      }
      progress = {partition.committed_offset, now, false};
      continue;
    }
    if (now - progress.since < options_.silent) continue;
    const double seconds = Seconds(now - progress.since);
    std::string sentence = Explain(number, seconds);
    if (!progress.said) {
      callbacks_.say(sentence);
      ++alarms;
    }
    progress.said = true;
    silent.push_back({number, seconds, std::move(sentence)});
  }
  const MutexLock lock(mutex_);
  if (stopping_) return;
  view_.silent = std::move(silent);
  view_.silent_alarms += alarms;
}

std::string Watchdog::Explain(int32_t partition, double seconds) const {
  return "partition " + std::to_string(partition) + ": no outcome was committed for " +
         Whole(seconds) + "; " + callbacks_.explain(partition);
}

void Watchdog::ComparePolls(const Look& look, Time now) {
  if (look.polls != polls_ || !look.must_poll) polled_ = now;
  polls_ = look.polls;
  const Clock::duration age = now - polled_;
  const bool is_late = options_.poll.count() > 0 && age >= options_.poll;
  std::string sentence;
  if (is_late) {
    sentence = "the source was not asked for " + Whole(Seconds(age)) + ": " +
               (look.doing.empty() ? "it does not come back" : look.doing);
  }
  bool is_new = false;
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    view_.poll_age_seconds = Seconds(age);
    is_new = is_late && view_.late_poll.empty();
    view_.poll_alarms += is_new;
    view_.late_poll = sentence;
  }
  if (is_new) callbacks_.say(sentence);
}

}  // namespace nudge
