// The door on an embedded log: what is submitted becomes a record, and its outcome finds the
// client.
//
//   Submit -> [EmbeddedDoor] -> EmbeddedLog -> Processor -> Deliver -> [EmbeddedDoor] -> Following
//
// It computes nothing and knows nothing that log and outcomes do not hold: a client that is gone,
// or a process that died, leaves the event to its outcome. Submit, Outcome and Models: any thread.
// Deliver: the thread that writes outcomes. `stored` is called on the log's thread, `outcome` on
// that of Deliver, `token` on that of Tell, `failed` on either or inside Submit.
#pragma once

#include <atomic>
#include <map>

#include "connectors/http/door.h"
#include "connectors/log/embedded_log.h"
#include "connectors/sink.h"
#include "pipeline/serve/outcome_index.h"
#include "stages/guarded.h"

namespace nudge {

struct EmbeddedDoorOptions {
  uint32_t in_flight_max = 10'000;  // events without an outcome
  size_t line_bytes = 1 << 20;      // of an event
  std::vector<std::string> models;
};

class EmbeddedDoor final : public Door {
 public:
  // Once `stop` is set nothing more is taken. All must outlive the door; the log must be stopped
  // before the door goes.
  EmbeddedDoor(EmbeddedDoorOptions options, EmbeddedLog& log, OutcomeIndex& outcomes,
               const std::atomic<bool>& stop)
      : options_(std::move(options)), log_(log), outcomes_(outcomes), stop_(stop) {}

  // Fails with kBusy above in_flight_max, kTooLarge above line_bytes, kUnavailable at a stop, and
  // as EmbeddedLog::Append. A line's end in the JSON becomes a space, so that the event is one line
  // wherever it is written.
  void Submit(std::string tenant, std::string event_json, Following following) override;
  std::optional<std::string> Outcome(std::string_view tenant,
                                     std::string_view event_id) const override;
  std::vector<std::string> Models() const override { return options_.models; }

  // What is added to the answer of the event at `offset`, as it is written. Any thread, before
  // Deliver of it.
  void Tell(int64_t offset, std::string_view added) const;

  // A committed outcome.
  void Deliver(const OutcomeLine& line);

  // After the last Deliver, with the log stopped: tells all whose event is stored and not finished
  // that it is finished after a restart.
  void AnswerRest();

  size_t in_flight() const;

 private:
  const EmbeddedDoorOptions options_;
  EmbeddedLog& log_;
  OutcomeIndex& outcomes_;
  const std::atomic<bool>& stop_;
  mutable Mutex mutex_;
  size_t in_flight_ GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Following> stored_ GUARDED_BY(mutex_);  // by offset
};

}  // namespace nudge
