// What the library under the HTTP server reaches alone: requests -> [BareServer] -> the same few
// bytes for each. For `nudge bench http`, beside which HttpServer stands.
//
// Made and destroyed on one thread; has one of its own. It has no limits and no patience: it
// listens on loopback, for a client that means well.
#pragma once

#include <cstdint>
#include <memory>

namespace nudge {

class BareServer {
 public:
  BareServer();  // throws StartError: no port is to be had
  ~BareServer();
  BareServer(const BareServer&) = delete;
  BareServer& operator=(const BareServer&) = delete;

  uint16_t port() const;

 private:
  struct Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace nudge
