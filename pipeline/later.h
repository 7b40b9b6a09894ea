// A value that is there, or will be: Later<T>, and who waits for it.
//
//   job -> Resolve(value) -> [Later] -> the continuations that When was given
//
// Any thread. A continuation runs at once where the value is there, else by the thread that
// resolves it, in the order of the calls; never under the lock. Between two Laters no order is
// promised.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "stages/guarded.h"
#include "stages/result.h"

namespace nudge {

template <class T>
class Later {
 public:
  Later() = default;
  explicit Later(T value) : value_(std::move(value)) {}  // it is there
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  bool IsThere() const { return Find() != nullptr; }

  // Null as long as it is not there. What is there never changes, and lives as long as this.
  const T* Find() const {
    const MutexLock lock(mutex_);
    return value_ ? &*value_ : nullptr;
  }

  // Requires that it is there.
  const T& Get() const {
    const T* value = Find();
    ENSURE(value != nullptr);
    return *value;
  }

  // Destroys `then` without calling it where nobody will resolve the value.
  void When(std::function<void(const T&)> then) {
    {
      const MutexLock lock(mutex_);
      if (!value_) {
        if (!given_up_) waiting_.push_back(std::move(then));
        return;
      }
    }
    then(Get());
  }

  // Once.
  void Resolve(T value) {
    std::vector<std::function<void(const T&)>> waiting;
    {
      const MutexLock lock(mutex_);
      value_ = std::move(value);
      waiting.swap(waiting_);
    }
    for (const auto& then : waiting) then(Get());
  }

  // Nobody will resolve it, unless it is there: what waits is destroyed without being called, and
  // so is what comes later, which might hold this value and so keep itself for ever.
  void GiveUp() {
    std::vector<std::function<void(const T&)>> dropped;  // destroyed without the lock
    const MutexLock lock(mutex_);
    given_up_ = true;
    dropped.swap(waiting_);
  }

 private:
  mutable Mutex mutex_;
  std::optional<T> value_ GUARDED_BY(mutex_);
  bool given_up_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void(const T&)>> waiting_ GUARDED_BY(mutex_);
};

template <class T>
using LaterPtr = std::shared_ptr<Later<T>>;

// Held by the job that will resolve the value. If the job is dropped, so is what waits for it: two
// lessons about one answer would otherwise keep each other for ever.
template <class T>
std::shared_ptr<void> OwnWaiting(const LaterPtr<T>& later) {
  return {later.get(), [later](void*) { later->GiveUp(); }};
}

}  // namespace nudge
