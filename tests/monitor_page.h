// Asks a monitor for its pages, as anybody could.
#pragma once

#include <boost/test/unit_test.hpp>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "pipeline/observe/monitor.h"

namespace nudge::testing {

inline constexpr char kLoopback[] = "127.0.0.1";

// The whole answer to a request, head and body.
inline std::string Send(uint16_t port, const std::string& request) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  BOOST_REQUIRE(connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                0);
  BOOST_REQUIRE(send(descriptor, request.data(), request.size(), 0) ==
                static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t got; (got = recv(descriptor, buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  close(descriptor);
  return answer;
}

struct Page {
  int status = 0;
  std::string body;
};

inline Page Ask(const Monitor& monitor, const std::string& path,
                const std::string& method = "GET") {
  const std::string answer = Send(
      monitor.port(), method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  BOOST_REQUIRE(answer.starts_with("HTTP/1.1 "));
  const size_t body = answer.find("\r\n\r\n");
  BOOST_REQUIRE(body != std::string::npos);
  return {std::stoi(answer.substr(9, 3)), answer.substr(body + 4)};
}

inline bool Holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A monitor's page, once it is what it should be.
inline std::string WaitForPage(const Monitor& monitor, const std::string& path, int status) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  Page page;
  do {
    page = Ask(monitor, path);
    if (page.status == status) return page.body;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  } while (std::chrono::steady_clock::now() < deadline);
  BOOST_ERROR(path << " gives " << page.status << ": " << page.body);
  return "";
}

}  // namespace nudge::testing
