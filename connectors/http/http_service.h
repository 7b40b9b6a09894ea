// What the server does with a request: who sends it, whether they may, which handler has it.
//
//   HttpRequest -> [HttpService::Take] -> HttpServed: an answer at once, an HttpPlan for the door,
//   an HttpErrand for the disk, or an HttpFeed
//
// It knows no sockets. Any thread; the door outlives it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connectors/http/handlers.h"
#include "stages/guarded.h"

namespace nudge {

// A path, and what may come of it: openapi.json says the same (http_service_tests).
struct Route {
  std::string_view method;
  std::string_view path;  // a part in braces stands for any that is not empty
  bool needs_key;         // where there are keys
  Handled (*handler)(const HttpRequest& request, const Scene& scene);
  std::vector<unsigned> statuses;
};
std::span<const Route> Routes();

// What every path may answer: those of the server, of keys, and of what is no path.
std::span<const unsigned> CommonStatuses();

struct HttpServed {
  Handled handled;
  size_t route = 0;  // by index into Routes(), or their number for what is no path
  std::vector<std::pair<std::string, std::string>> headers;  // to add to whatever is answered
};

class HttpService {
 public:
  using Clock = std::chrono::steady_clock;

  // Throws StartError: others reach the address and there are no keys, the keys cannot be read, an
  // origin is none.
  HttpService(const HttpOptions& options, Door& door, const EventLimits& limits);

  HttpServed Take(const HttpRequest& request, Clock::time_point now, int64_t unix_seconds);

  // The event is in the log at this offset: its user may see the outcome there.
  void Stored(const HttpPlan::Item& event, int64_t offset);

 private:
  using Refused = std::optional<HttpResponse>;
  struct Bucket {
    double tokens = 0;
    Clock::time_point at;
  };
  using EventKey = std::pair<std::string, std::string>;  // tenant, id
  struct Owner {
    EventKey event;
    std::string user;
    std::string key_id;
  };

  Handled Handle(const HttpRequest& request, Clock::time_point now, int64_t unix_seconds,
                 size_t route);
  Refused CheckOrigin(const HttpRequest& request, HttpServed& served) const;
  Refused CheckHost(const HttpRequest& request) const;
  std::variant<Caller, HttpResponse> CallerOf(const HttpRequest& request) const;
  Refused TakeToken(const Caller& caller, Clock::time_point now);
  OwnedEvent Owned(const Caller& caller, const EventKey& event, std::optional<int64_t> offset);

  const HttpOptions options_;
  Door& door_;
  PdfText pdf_;
  const EventLimits limits_;
  std::vector<std::string> origins_;
  std::optional<KeyRing> keys_;
  Mutex mutex_;
  std::map<std::string, Bucket> buckets_ GUARDED_BY(mutex_);  // by key id
  // By offset, since an id may come from two users and with two sources, an offset from one. All of
  // a tenant's are in one partition.
  using Place = std::pair<std::string, int64_t>;  // tenant, offset
  std::map<Place, Owner> owners_ GUARDED_BY(mutex_);
  std::deque<Place> stored_ GUARDED_BY(mutex_);  // the oldest first
  std::map<EventKey, int64_t> newest_ GUARDED_BY(mutex_);
};

}  // namespace nudge
