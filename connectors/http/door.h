// What stands behind the HTTP server: whatever comes through the door is an event in the log, and
// whatever leaves is its outcome.
//
//   event -> [Door] -> stored | failed, then tokens, then the outcome
//
// The server's threads call it, any of them at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/result.h"

namespace nudge {

// What a client is told of its event. Called once each, in this order, on a thread of the door's
// own; they return at once (post to the server's own thread).
struct Following {
  std::function<void(int64_t offset)> stored;                    // durable: it will have an outcome
  std::function<void(std::string_view text)> token;              // provisional; may never come
  std::function<void(const std::string& outcome_line)> outcome;  // committed
  // Not stored (full disk, stop, no credits); nothing follows.
  std::function<void(const Error& error)> failed;
};

class Door {
 public:
  virtual ~Door() = default;

  // Takes one CloudEvent in structured mode (complete JSON, validated by the caller with
  // connectors/codec). Never waits.
  virtual void Submit(std::string tenant, std::string event_json, Following following) = 0;

  // The committed outcome of the tenant's event, nothing where there is none (yet, or beyond the
  // bound).
  virtual std::optional<std::string> Outcome(std::string_view tenant,
                                             std::string_view event_id) const = 0;

  // The names for GET /v1/models.
  virtual std::vector<std::string> Models() const = 0;
};

}  // namespace nudge
