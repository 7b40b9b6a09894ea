// The HTTP server: requests -> [HttpServer] -> Door -> outcomes -> answers.
//
// What paths there are, and who may use them, is http_service.h's; this is sockets, limits and
// patience. Every wait ends: a head, a body, an idle connection, a client that does not take its
// answer, an outcome that does not come.
//
// Made and destroyed on one thread; has `threads` of its own. The door outlives the server. What
// the door tells after the server's end reaches nobody, and harms nothing.
#pragma once

#include <cstdint>
#include <memory>

#include "connectors/event_limits.h"
#include "connectors/http/door.h"
#include "connectors/http/http_options.h"
#include "connectors/http_counts.h"

namespace nudge {

class HttpServer {
 public:
  // Listens from now on. Throws StartError: the address is not to be had, others reach it and
  // there are no keys, the keys or the certificate cannot be read.
  HttpServer(const HttpOptions& options, Door& door, const EventLimits& limits = {});
  ~HttpServer();  // after a second for answers on their way; then whoever is still there is cut off
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  HttpCounts counts() const;  // any thread

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

}  // namespace nudge
