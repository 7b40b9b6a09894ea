#include "connectors/http/http_service.h"

#include <algorithm>
#include <cmath>

namespace nudge {
namespace {

// The key of "Bearer KEY", the scheme in any case; empty where there is none.
std::string_view BearerOf(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() <= kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((header[i] | 0x20) != kScheme[i]) return {};
  }
  return header.substr(kScheme.size());
}

bool Matches(const Route& route, std::string_view path) {
  std::string_view pattern = route.path;
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = pattern.substr(0, pattern.find('/', 1));
    const std::string_view part = path.substr(0, path.find('/', 1));
    const bool is_any = wanted.starts_with("/{") && part.size() > 1;
    if (!is_any && wanted != part) return false;
    pattern.remove_prefix(wanted.size());
    path.remove_prefix(part.size());
  }
  return pattern.empty() && path.empty();
}

// "127.0.0.1:8080" without its port.
std::string_view HostOf(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == host.npos ? host : host.substr(1, end - 1);
  }
  return host.substr(0, host.find(':'));
}

size_t RouteOf(const HttpRequest& request) {
  const std::span<const Route> routes = Routes();
  const auto found = std::find_if(routes.begin(), routes.end(), [&](const Route& route) {
    return route.method == request.method && Matches(route, request.path);
  });
  return static_cast<size_t>(found - routes.begin());
}

HttpResponse NoRoute(const HttpRequest& request) {
  std::string allowed;
  for (const Route& route : Routes()) {
    if (!Matches(route, request.path)) continue;
    allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
  }
  if (allowed.empty()) {
    return ToResponse({404, "no_such_path", "no path " + Quoted(request.path),
                       "GET /openapi.json has them all", ""});
  }
  HttpResponse response = ToResponse(
      {405, "wrong_method",
       Quoted(request.path) + " takes " + allowed + ", not " + Quoted(request.method), "", ""});
  response.headers.emplace_back("Allow", allowed);
  return response;
}

}  // namespace

std::span<const Route> Routes() {
  static const std::vector<Route> kRoutes = {
      {"POST", "/v1/events", true, PostEvents, {200, 202, 400, 403, 413, 415, 429, 503, 504}},
      {"GET", "/v1/outcomes/{id}", true, GetOutcome, {200, 202, 400, 403, 404, 410}},
      {"POST",
       "/v1/chat/completions",
       true,
       PostChatCompletions,
       {200, 202, 400, 403, 404, 409, 413, 415, 429, 500, 503, 504}},
      {"GET", "/v1/models", true, GetModels, {200}},
      {"GET", "/v1/caller", true, GetCaller, {200}},
      {"POST",
       "/v1/feedback",
       true,
       PostFeedback,
       {200, 202, 400, 403, 404, 409, 410, 413, 415, 429, 500, 503, 504}},
      {"POST",
       "/v1/documents",
       true,
       PostDocuments,
       {200, 202, 400, 403, 409, 413, 415, 429, 500, 503, 504}},
      {"GET", "/v1/adapters/{tenant}", true, GetAdapters, {200, 400, 403, 500, 501, 503}},
      {"GET", "/v1/adapters/{tenant}/events", true, GetAdapterEvents, {200, 400, 403, 501}},
      {"GET",
       "/v1/adapters/{tenant}/{snapshot}/{file}",
       true,
       GetAdapterFile,
       {200, 206, 304, 400, 403, 404, 416, 500, 501, 503}},
      {"GET", "/v1/lessons", true, GetLessons, {200, 400, 403, 501, 503}},
      {"GET", "/healthz", false, GetHealth, {200}},
      {"GET", "/openapi.json", false, GetOpenApi, {200}},
      {"GET", "/", false, GetPage, {200}},
      {"GET", "/page.js", false, GetPage, {200}},
      {"GET", "/lessons.js", false, GetPage, {200}},
      {"GET", "/page.css", false, GetPage, {200}},
  };
  return kRoutes;
}

std::span<const unsigned> CommonStatuses() {
  static constexpr unsigned kStatuses[] = {204, 400, 401, 403, 404, 405,
                                           408, 413, 429, 431, 500, 503};
  return kStatuses;
}

HttpService::HttpService(const HttpOptions& options, Door& door, const EventLimits& limits)
    : options_(options),
      door_(door),
      pdf_(options),
      limits_(limits),
      origins_(EntriesOf(options.cors_origins, ',')) {
  for (const std::string& origin : origins_) {
    if ((!origin.starts_with("https://") && !origin.starts_with("http://")) ||
        origin.find('/', origin.find("//") + 2) != origin.npos) {
      throw StartError("http.cors_origins: " + origin +
                       " is no origin: write it as https://shop.example");
    }
  }
  if (options_.tls_certificate_file.empty() != options_.tls_key_file.empty()) {
    throw StartError("http.tls_certificate_file and http.tls_key_file: give both, or neither");
  }
  if (!options_.keys_file.empty()) {
    keys_.emplace(options_.keys_file);
  } else if (!IsLoopback(options_.address)) {
    throw StartError("http.address: others reach " + options_.address +
                     ", and there is no http.keys_file: make keys by nudge key add, or listen at "
                     "127.0.0.1");
  }
}

HttpServed HttpService::Take(const HttpRequest& request, Clock::time_point now,
                             int64_t unix_seconds) {
  HttpServed served;
  served.route = RouteOf(request);
  try {
    if (auto refused = CheckOrigin(request, served)) {
      served.handled = *std::move(refused);
    } else {
      served.handled = Handle(request, now, unix_seconds, served.route);
    }
  } catch (const std::exception& error) {
    served.handled = ToResponse({500, "internal", error.what(), "report it as a defect", ""});
  }
  return served;
}

Handled HttpService::Handle(const HttpRequest& request, Clock::time_point now, int64_t unix_seconds,
                            size_t index) {
  if (auto refused = CheckHost(request)) return *std::move(refused);
  if (index == Routes().size()) return NoRoute(request);
  const Route& route = Routes()[index];
  Caller caller;
  caller.open = true;
  if (route.needs_key) {
    auto found = CallerOf(request);
    if (auto* refused = std::get_if<HttpResponse>(&found)) return std::move(*refused);
    caller = std::get<Caller>(std::move(found));
    if (auto refused = TakeToken(caller, now)) return *std::move(refused);
  }
  const auto owned = [&](const std::string& tenant, const std::string& id,
                         std::optional<int64_t> offset) {
    return Owned(caller, {tenant, id}, offset);
  };
  return route.handler(request, {caller, options_, limits_, door_, pdf_, unix_seconds, owned});
}

// A page of another origin reaches a server on the same machine through its user's browser, and
// simple requests need no leave of the server's. So an origin that is not ours is refused, not only
// left without leave to read the answer.
HttpService::Refused HttpService::CheckOrigin(const HttpRequest& request,
                                              HttpServed& served) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty()) return std::nullopt;
  served.headers.emplace_back("Vary", "Origin");
  const std::string_view host = request.Header("host");
  const size_t slashes = origin.find("//");
  if (slashes != origin.npos && origin.substr(slashes + 2) == host && !host.empty()) {
    return std::nullopt;
  }
  if (std::find(origins_.begin(), origins_.end(), origin) == origins_.end()) {
    return ToResponse({403, "wrong_origin", "pages of " + Quoted(origin) + " may not call this",
                       "put the origin into http.cors_origins", ""});
  }
  served.headers.emplace_back("Access-Control-Allow-Origin", origin);
  served.headers.emplace_back("Access-Control-Expose-Headers",
                              "x-nudge-event-id, Location, Retry-After, ETag, Content-Range");
  if (request.method != "OPTIONS" || request.Header("access-control-request-method").empty()) {
    return std::nullopt;
  }
  served.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST");
  served.headers.emplace_back("Access-Control-Allow-Headers",
                              request.Header("access-control-request-headers"));
  served.headers.emplace_back("Access-Control-Max-Age", "600");
  return HttpResponse{204, "", "", {}};
}

// Without keys a name that resolves to this machine is enough for a foreign page to be of our
// origin (DNS rebinding), so only this machine's own names are taken.
HttpService::Refused HttpService::CheckHost(const HttpRequest& request) const {
  if (keys_ || IsLoopback(HostOf(request.Header("host")))) return std::nullopt;
  return ToResponse(
      {403, "wrong_host",
       "without keys only localhost is answered, not " + Quoted(request.Header("host")),
       "call 127.0.0.1 or localhost, or configure http.keys_file", ""});
}

std::variant<Caller, HttpResponse> HttpService::CallerOf(const HttpRequest& request) const {
  Caller caller;
  caller.open = true;
  if (!keys_) return caller;
  const std::string_view key = BearerOf(request.Header("authorization"));
  if (key.empty()) {
    return ToResponse({401, "no_key", "no API key", "send Authorization: Bearer KEY", ""});
  }
  auto found = keys_->Find(key);
  if (found) return *std::move(found);
  return ToResponse({401, "invalid_api_key", "the API key is not known",
                     "use one that nudge key add printed, and restart after adding it", ""});
}

HttpService::Refused HttpService::TakeToken(const Caller& caller, Clock::time_point now) {
  if (caller.requests_per_minute == 0) return std::nullopt;
  const double most = caller.requests_per_minute;
  const double per_second = most / 60;
  const MutexLock lock(mutex_);
  const auto [found, is_new] = buckets_.try_emplace(caller.key_id, Bucket{most, now});
  Bucket& bucket = found->second;
  const double seconds = std::chrono::duration<double>(now - bucket.at).count();
  bucket.tokens = std::min(most, bucket.tokens + std::max(0.0, seconds) * per_second);
  bucket.at = now;
  if (bucket.tokens >= 1) {
    bucket.tokens -= 1;
    return std::nullopt;
  }
  HttpResponse response = ToResponse(
      {429, "rate_limited",
       "over the key's " + std::to_string(caller.requests_per_minute) + " requests a minute",
       "wait for as long as Retry-After says", ""});
  const double wait_seconds = std::ceil((1 - bucket.tokens) / per_second);
  response.headers.emplace_back("Retry-After", std::to_string(static_cast<int64_t>(wait_seconds)));
  return response;
}

OwnedEvent HttpService::Owned(const Caller& caller, const EventKey& event,
                              std::optional<int64_t> offset) {
  const MutexLock lock(mutex_);
  if (!offset) {
    const auto newest = newest_.find(event);
    if (newest == newest_.end()) return {};
    offset = newest->second;
  }
  const auto found = owners_.find({event.first, *offset});
  if (found == owners_.end() || found->second.event != event) return {};
  // A back end sees what it sent for others.
  const bool theirs =
      caller.open || found->second.user == caller.user || found->second.key_id == caller.key_id;
  return {theirs ? Ownership::kTheirs : Ownership::kAnothers, offset};
}

void HttpService::Stored(const HttpPlan::Item& event, int64_t offset) {
  const EventKey key{event.tenant, event.id};
  const MutexLock lock(mutex_);
  const Place place{event.tenant, offset};
  if (owners_.insert_or_assign(place, Owner{key, event.user, event.key_id}).second) {
    stored_.push_back(place);
  }
  newest_.insert_or_assign(key, offset);
  if (owners_.size() <= options_.owners_kept_max) return;
  const auto oldest = owners_.find(stored_.front());
  stored_.pop_front();
  const auto named = newest_.find(oldest->second.event);
  if (named != newest_.end() && named->second == oldest->first.second) newest_.erase(named);
  owners_.erase(oldest);
}

}  // namespace nudge
