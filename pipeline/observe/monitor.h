// What a run or a gateway says of itself over HTTP: view -> [Monitor] -> /metrics /healthz /readyz
// /status
//
//   /metrics  Prometheus' text
//   /healthz  200: the process turns
//   /readyz   200: it serves; else 503 with the reasons, one a line
//   /status   JSON
//
// Any other path is 404, any method but GET and HEAD 405. No authentication: bind it to loopback,
// or to a network of your own. Has threads of its own, which only read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "pipeline/observe/run_view.h"
#include "stages/guarded.h"

namespace nudge {

class Monitor {
 public:
  using View = std::variant<RunView, GatewayView>;

  // Listens from now on; without a Watch it says that the run is starting. Port 0: any that is
  // free. Throws StartError if the port cannot be had.
  Monitor(const std::string& address, uint16_t port);
  ~Monitor();  // waits for pages that are being made
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  uint16_t port() const;

  // While one lives the pages show what `look` gives. Its end waits for those being made.
  class Watch {
   public:
    Watch(Monitor& monitor, std::function<View()> look);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Monitor& monitor_;
  };

 private:
  struct Server;
  View Look();

  Mutex mutex_;  // held while a page's values are read: a run outlives those who look at it
  std::function<View()> look_ GUARDED_BY(mutex_);
  std::unique_ptr<Server> server_;
};

}  // namespace nudge
