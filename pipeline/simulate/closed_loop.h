// A real processor, driven by the program itself: events in, and each outcome handed back.
//
//   Event -> [ClosedLoop] -> events.jsonl, Processor -> outcomes.jsonl;   offset -> Outcome
//
// The processor runs on a thread of its own; everything here is called from one other thread. An
// event stands in the log before it is processed, so that a replay of the log gives the same bytes,
// whatever the caller waited for. Each wait ends by a limit, or when the process is to stop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/config/config.h"
#include "stages/events.h"
#include "stages/hash.h"
#include "stages/result.h"

namespace nudge {

// What became of an event.
struct Ending {
  std::optional<Response> response;
  std::string receipt;  // of what was applied; for people
  std::string refusal;  // of a dead letter; for people
};

class ClosedLoop {
 public:
  // Writes below `folder`, and removes what an earlier loop wrote there. The rest is as configured,
  // but that no state is kept: the log is the state. Throws StartError.
  ClosedLoop(Config config, const std::string& folder);
  ~ClosedLoop();
  ClosedLoop(const ClosedLoop&) = delete;
  ClosedLoop& operator=(const ClosedLoop&) = delete;

  // The offset of the event. kInvalidEvent and the like where it is none by the limits.
  Result<int64_t> Send(const Event& event);

  // Of an event that was sent; once.
  Result<Ending> Await(int64_t offset);

  // Until every event has its outcome and every lesson is learnt.
  Result<Nothing> Settle();

  // Greedy answers to questions without passages and few-shots, by the tenant's newest version or
  // by the base: beside the log, from which they leave no trace. Settled only.
  struct Beside {
    TenantId tenant;
    std::string system;  // empty: the configuration's
    std::string digest;  // of the version that is to answer; "base": the base model
  };
  Result<std::vector<std::string>> Ask(const Beside& beside,
                                       const std::vector<std::string>& questions);

  uint64_t refused() const;           // dead letters so far
  std::string first_refusal() const;  // empty: none
  std::string description() const;    // of the model

  // Ends the log; the outcomes' chain.
  Result<Sha256Digest> Finish();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nudge
