// Locks whose use is checked while compiling: a member says which lock guards it, a function which
// lock it needs, and clang (scripts/tidy --lint, -Wthread-safety) refuses what does not hold to it.
// To g++ the annotations are nothing and these are std::mutex and std::condition_variable.
//
// For connectors, stages/model and pipeline. The stages themselves have no threads and do not
// include it (tests/layering_tests.cpp).
//
//   Mutex mutex_;
//   CondVar changed_;
//   bool done_ GUARDED_BY(mutex_) = false;
//   void Settle() REQUIRES(mutex_);
//
//   const MutexLock lock(mutex_);
//   changed_.Wait(mutex_, [&]() REQUIRES(mutex_) { return done_; });
//
// A lambda is a function of its own to clang: it says what it needs as any other. What it does not
// see: who keeps a pointer or reference to what is guarded; constructors and destructors.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#if defined(__clang__)
#define NUDGE_ANNOTATION(x) __attribute__((x))
#else
#define NUDGE_ANNOTATION(x)
#endif

// Of a member: to be used under this lock; of a pointer: what it points to.
#define GUARDED_BY(mutex) NUDGE_ANNOTATION(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) NUDGE_ANNOTATION(pt_guarded_by(mutex))
// Of a function: its caller holds the lock; its caller must not, since it takes it itself.
#define REQUIRES(...) NUDGE_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) NUDGE_ANNOTATION(locks_excluded(__VA_ARGS__))
// Of a function: returns with the lock taken, with the lock given back, a reference to the lock.
#define ACQUIRE(...) NUDGE_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) NUDGE_ANNOTATION(release_capability(__VA_ARGS__))
#define RETURN_CAPABILITY(mutex) NUDGE_ANNOTATION(lock_returned(mutex))
// Of a function whose body is beyond the analysis; a comment says why it is right.
#define NO_THREAD_SAFETY_ANALYSIS NUDGE_ANNOTATION(no_thread_safety_analysis)

namespace nudge {

class NUDGE_ANNOTATION(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ACQUIRE() { mutex_.lock(); }
  void Unlock() RELEASE() { mutex_.unlock(); }

  // Says what the analysis cannot see: that two names are of the same lock. Checks nothing.
  void AssertHeld() const NUDGE_ANNOTATION(assert_capability(this)) {}

 private:
  friend class CondVar;

  std::mutex mutex_;
};

// Holds the lock to the end of its scope; may give it back before, and take it again.
class NUDGE_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() RELEASE() {
    if (held_) mutex_.Unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void Lock() ACQUIRE() {
    mutex_.Lock();
    held_ = true;
  }
  void Unlock() RELEASE() {
    held_ = false;
    mutex_.Unlock();
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// Waits give the lock back meanwhile and hold it again when they return. `ready` is asked under it:
// its annotation names the lock in its own words, so that clang cannot follow the call from here.
class CondVar {
 public:
  using Time = std::chrono::steady_clock::time_point;

  void NotifyOne() { changed_.notify_one(); }
  void NotifyAll() { changed_.notify_all(); }

  // Until somebody notifies, or without a reason: the caller looks again.
  void WaitOnce(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    changed_.wait(lock);
    lock.release();
  }

  template <class Ready>
  void Wait(Mutex& mutex, Ready ready) REQUIRES(mutex) NO_THREAD_SAFETY_ANALYSIS {
    while (!ready()) WaitOnce(mutex);
  }

  // What `ready` says at the end: false, the time is over.
  template <class Ready>
  bool WaitUntil(Mutex& mutex, Time end, Ready ready) REQUIRES(mutex) NO_THREAD_SAFETY_ANALYSIS {
    bool is_ready = ready();
    for (bool is_over = false; !is_ready && !is_over; is_ready = ready()) {
      std::unique_lock lock(mutex.mutex_, std::adopt_lock);
      is_over = changed_.wait_until(lock, end) == std::cv_status::timeout;
      lock.release();
    }
    return is_ready;
  }
  template <class Ready>
  bool WaitFor(Mutex& mutex, std::chrono::nanoseconds timeout, Ready ready) REQUIRES(mutex) {
    return WaitUntil(mutex, std::chrono::steady_clock::now() + timeout, std::move(ready));
  }

 private:
  std::condition_variable changed_;
};

}  // namespace nudge
