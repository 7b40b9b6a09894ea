#include "pipeline/serve/embedded_door.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace nudge {
namespace {

void Fail(const Following& following, const Error& error) {
  if (following.failed) following.failed(error);
}

}  // namespace

void EmbeddedDoor::Submit(std::string tenant, std::string event_json, Following following) {
  if (event_json.size() > options_.line_bytes) {
    return Fail(following,
                {Code::kTooLarge,
                 "event: " + std::to_string(event_json.size()) + " bytes are over the limit of " +
                     std::to_string(options_.line_bytes),
                 "shorten it, or raise limits.line_bytes"});
  }
  if (stop_) {
    return Fail(following, {Code::kUnavailable, "the event is not stored: nudge is stopping",
                            "send it again once nudge is back"});
  }
  bool has_room = false;
  {
    const MutexLock lock(mutex_);
    has_room = in_flight_ < options_.in_flight_max;
    if (has_room) ++in_flight_;
  }
  if (!has_room) {
    return Fail(following, {Code::kBusy,
                            "the event is not stored: " + std::to_string(options_.in_flight_max) +
                                " events wait for their outcomes",
                            "send it again later, or raise serve.in_flight_max"});
  }
  // Outside of texts, where JSON does not have them, they mean no more than a space.
  std::replace_if(
      event_json.begin(), event_json.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  const auto waiting = std::make_shared<Following>(std::move(following));
  log_.Append(std::move(tenant), std::move(event_json), [this, waiting](const auto& offset) {
    {
      const MutexLock lock(mutex_);
      if (offset.ok()) {
        stored_[*offset] = *waiting;
      } else {
        --in_flight_;
      }
    }
    if (!offset.ok()) return Fail(*waiting, offset.error());
    if (waiting->stored) waiting->stored(*offset);
  });
}

std::optional<std::string> EmbeddedDoor::Outcome(std::string_view tenant,
                                                 std::string_view event_id) const {
  return outcomes_.Find(tenant, event_id);
}

bool EmbeddedDoor::Awaits(std::string_view, int64_t offset) const {
  const MutexLock lock(mutex_);
  return stored_.contains(offset);
}

void EmbeddedDoor::Tell(int64_t offset, std::string_view added) const {
  std::function<void(std::string_view)> token;
  {
    const MutexLock lock(mutex_);
    const auto found = stored_.find(offset);
    if (found != stored_.end()) token = found->second.token;
  }
  if (token) token(added);
}

void EmbeddedDoor::Deliver(const OutcomeLine& line) {
  outcomes_.Add(line.bytes);
  Following following;
  {
    const MutexLock lock(mutex_);
    auto found = stored_.extract(line.offset);
    if (found.empty()) return;  // of an earlier process
    following = std::move(found.mapped());
    --in_flight_;
  }
  if (following.outcome) following.outcome(line.bytes);
}

void EmbeddedDoor::AnswerRest() {
  std::map<int64_t, Following> rest;
  {
    const MutexLock lock(mutex_);
    rest = std::exchange(stored_, {});
    in_flight_ -= rest.size();
  }
  for (const auto& [offset, following] : rest) {
    Fail(following, {Code::kUnavailable,
                     "the event is stored at offset " + std::to_string(offset) +
                         " and was not finished before nudge stopped",
                     "it is finished once nudge is back: ask for its outcome then"});
  }
}

size_t EmbeddedDoor::in_flight() const {
  const MutexLock lock(mutex_);
  return in_flight_;
}

}  // namespace nudge
