// A client of the HTTP server that does as it is told: by bytes, and no more careful than others.
// Threads of a test may use it, each its own: it asserts by ENSURE.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge::testing {

struct Reply {
  int status = 0;  // 0: the connection ended without one
  std::map<std::string, std::string> headers;
  std::string body;
};

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const timeval limit{60, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    ENSURE(connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // False once the other side does not take it.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  void EndSending() { shutdown(socket_, SHUT_WR); }

  // Up to the mark, with it; up to the end where it does not come.
  std::string ReadTo(std::string_view mark) {
    for (;;) {
      const size_t at = read_.find(mark);
      if (at != std::string::npos) return Take(at + mark.size());
      if (!ReadSome()) return Take(read_.size());
    }
  }
  std::string ReadToEnd() {
    while (ReadSome()) {
    }
    return Take(read_.size());
  }

  Reply Receive() {
    Reply reply;
    const std::string head = ReadTo("\r\n\r\n");
    if (!head.starts_with("HTTP/1.")) return reply;
    reply.status = std::stoi(head.substr(9, 3));
    for (size_t begin = head.find("\r\n") + 2; begin + 2 < head.size();) {
      const size_t end = head.find("\r\n", begin);
      const std::string line = head.substr(begin, end - begin);
      const size_t colon = line.find(": ");
      reply.headers[line.substr(0, colon)] = line.substr(colon + 2);
      begin = end + 2;
    }
    if (reply.headers.contains("Content-Length")) {
      const size_t size = std::stoul(reply.headers["Content-Length"]);
      while (read_.size() < size && ReadSome()) {
      }
      reply.body = Take(std::min(size, read_.size()));
    } else if (reply.headers.contains("Transfer-Encoding")) {
      for (;;) {
        const size_t size = std::stoul(ReadTo("\r\n"), nullptr, 16);
        while (read_.size() < size + 2 && ReadSome()) {
        }
        reply.body += Take(size);
        ENSURE(Take(2) == "\r\n");
        if (size == 0) break;
      }
    }
    return reply;
  }

 private:
  bool ReadSome() {
    char buffer[16 << 10];
    const ssize_t got = recv(socket_, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    read_.append(buffer, static_cast<size_t>(got));
    return true;
  }
  std::string Take(size_t bytes) {
    std::string taken = read_.substr(0, bytes);
    read_.erase(0, bytes);
    return taken;
  }

  const int socket_;
  std::string read_;
};

inline std::string Request(const std::string& method, const std::string& path,
                           const std::string& body = "", const std::string& headers = "") {
  return method + " " + path +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

inline Reply Call(uint16_t port, const std::string& request) {
  Connection connection(port);
  connection.Send(request);
  return connection.Receive();
}

}  // namespace nudge::testing
