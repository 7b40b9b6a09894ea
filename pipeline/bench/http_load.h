// Clients of an HTTP server for `nudge bench http`: a load of requests, and streams that idle.
//
// They mean well and check little: an answer that is not 200 ends the run. Main thread only. Throws
// StartError.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "stages/files.h"

namespace nudge {

struct HttpLoadTimes {
  double seconds = 0;      // in all
  std::vector<double> ms;  // of each request, until its answer is there
};

// So many connections to loopback that each send a request once the last one is answered, by one
// thread. `request(number)` makes each of them; answers have a Content-Length.
HttpLoadTimes LoadHttp(uint16_t port, size_t connections, size_t requests,
                       const std::function<std::string(size_t number)>& request);

// A process of its own, so that its sockets are not counted as ours. Made before there are threads.
class IdleStreams {
 public:
  IdleStreams();
  ~IdleStreams();
  IdleStreams(const IdleStreams&) = delete;
  IdleStreams& operator=(const IdleStreams&) = delete;

  // Opens so many streams of GET `path` and reads their heads; they stay open. How many it got.
  size_t Open(uint16_t port, const std::string& path, size_t streams);

 private:
  static void Work(const Descriptor& orders, const Descriptor& reports);

  Descriptor orders_;
  Descriptor reports_;
  pid_t process_ = 0;
};

}  // namespace nudge
