// One consistent cut through the graph, taken without stopping it.
//
// A barrier rides on an event through the graph. Each stage with state, having applied that event
// and none after it, adds what changed since the last cut; the executor adds the learners once all
// jobs up to the event are done; emit adds where the outcome log stood. When the last part is in,
// the cut is complete and goes to whoever asked for it.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "pipeline/state/cut.h"
#include "stages/guarded.h"

namespace nudge {

// Any thread. `done` is called once, by the thread that adds the last part.
class Barrier {
 public:
  Barrier(int parts, uint64_t follows, std::function<void(Cut)> done)
      : missing_(parts), done_(std::move(done)) {
    cut_.follows = follows;
  }

  // `part` names who these are for when they are loaded: "index", "learner". It goes in front of
  // every kind: "index/document".
  void Add(std::string_view part, Changes changes) {
    for (Change& change : changes) change.kind = std::string(part) + '/' + change.kind;
    Part([&](Cut& cut) {
      cut.changes.insert(cut.changes.end(), std::make_move_iterator(changes.begin()),
                         std::make_move_iterator(changes.end()));
    });
  }

  // Something was forgotten since the cut before. By a part, before its Add.
  void Forgets() {
    const MutexLock lock(mutex_);
    cut_.forgets = true;
  }

  void AddPosition(int32_t partition, uint64_t events, int64_t next_offset,
                   const Sha256Digest& chain) {
    Part([&](Cut& cut) {
      cut.partition = partition;
      cut.events = events;
      cut.next_offset = next_offset;
      cut.chain = chain;
    });
  }

 private:
  template <class Fill>
  void Part(Fill&& fill) {
    MutexLock lock(mutex_);
    fill(cut_);
    if (--missing_ > 0) return;
    Cut cut = std::move(cut_);
    lock.Unlock();
    done_(std::move(cut));
  }

  Mutex mutex_;
  Cut cut_ GUARDED_BY(mutex_);
  int missing_ GUARDED_BY(mutex_);
  const std::function<void(Cut)> done_;
};

}  // namespace nudge
