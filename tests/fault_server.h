// A server of OpenAI's protocol that errs as it is told, on loopback, for tests: the first
// connection gets the first script, the next the next; the last one is for all that follow.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "stages/guarded.h"
#include "stages/result.h"

namespace nudge::testing {

class FaultServer {
 public:
  // One connection, once its request was read. It is closed at the end of the script.
  class Peer {
   public:
    Peer(int socket, const std::atomic<bool>& is_over, std::string request)
        : socket_(socket), is_over_(is_over), request_(std::move(request)) {}
    const std::string& request() const { return request_; }  // as it was read
    bool Send(std::string_view bytes) const {
      while (!bytes.empty()) {
        const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0 || is_over_) return false;
        bytes.remove_prefix(static_cast<size_t>(sent));
      }
      return true;
    }
    // Until the other side goes, or the test.
    void Wait() const {
      char byte = 0;
      while (!is_over_ && recv(socket_, &byte, 1, 0) > 0) {
      }
    }

   private:
    const int socket_;
    const std::atomic<bool>& is_over_;
    const std::string request_;
  };
  using Script = std::function<void(const Peer&)>;

  // `reads`: false: scripts begin before anything is read.
  // `port`: 0: any that is free.
  explicit FaultServer(std::vector<Script> scripts, bool reads = true, uint16_t port = 0)
      : scripts_(std::move(scripts)), reads_(reads) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const int again = 1;  // a port whose connections have just ended
    setsockopt(listening_, SOL_SOCKET, SO_REUSEADDR, &again, sizeof again);
    ENSURE(bind(listening_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    ENSURE(listen(listening_, 16) == 0);
    socklen_t size = sizeof address;
    ENSURE(getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FaultServer() {
    is_over_ = true;
    shutdown(listening_, SHUT_RDWR);
    if (const int open = connected_; open >= 0) shutdown(open, SHUT_RDWR);
    thread_.join();
    close(listening_);
  }
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  uint16_t port() const { return port_; }
  std::vector<std::string> requests() const {
    const MutexLock lock(mutex_);
    return requests_;
  }

 private:
  void Serve() {
    for (size_t number = 0; !is_over_; ++number) {
      const int socket = accept(listening_, nullptr, nullptr);
      if (socket < 0) return;
      connected_ = socket;
      std::string request;
      if (reads_) {
        request = Read(socket);
        const MutexLock lock(mutex_);
        requests_.push_back(request);
      }
      scripts_[std::min(number, scripts_.size() - 1)](Peer(socket, is_over_, std::move(request)));
      connected_ = -1;
      close(socket);
    }
  }

  static std::string Read(int socket) {
    std::string read;
    for (char buffer[4096];;) {
      const size_t head = read.find("\r\n\r\n");
      const size_t length = read.find("Content-Length: ");
      const size_t body = length < head ? std::stoul(read.substr(length + 16)) : 0;
      if (head != read.npos && read.size() >= head + 4 + body) return read;
      const ssize_t got = recv(socket, buffer, sizeof buffer, 0);
      if (got <= 0) return read;
      read.append(buffer, static_cast<size_t>(got));
    }
  }

  const std::vector<Script> scripts_;
  const bool reads_;
  const int listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  uint16_t port_ = 0;
  std::atomic<bool> is_over_{false};
  std::atomic<int> connected_{-1};
  mutable Mutex mutex_;
  std::vector<std::string> requests_ GUARDED_BY(mutex_);
  std::thread thread_;
};

// Scripts of whole replies.

inline std::string HttpText(const std::string& status, const std::string& body) {
  return "HTTP/1.1 " + status +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

inline FaultServer::Script Says(const std::string& status, const std::string& body) {
  return [=](const FaultServer::Peer& peer) { peer.Send(HttpText(status, body)); };
}

// `text` must need no escapes.
inline FaultServer::Script Answers(const std::string& text) {
  return Says("200 OK", R"({"choices":[{"index":0,"message":{"role":"assistant","content":")" +
                            text +
                            R"("},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,)"
                            R"("completion_tokens":3,"total_tokens":14}})");
}

inline std::string StreamHead() {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
}
inline std::string Piece(const std::string& text) {
  return R"(data: {"choices":[{"index":0,"delta":{"content":")" + text + "\"}}]}\n\n";
}

}  // namespace nudge::testing
