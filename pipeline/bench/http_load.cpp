#include "pipeline/bench/http_load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "stages/result.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 16 << 10;
constexpr int kPatienceMs = 60'000;

Descriptor Connected(uint16_t port) {
  Descriptor connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const int at_once = 1;
  if (connection &&
      connect(*connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    setsockopt(*connection, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    return connection;
  }
  return Descriptor();
}

// Whether all of an answer is there; throws if it is not a good one.
bool IsWhole(const std::string& answer) {
  const size_t head = answer.find("\r\n\r\n");
  if (head == answer.npos) return false;
  if (!answer.starts_with("HTTP/1.1 200")) throw StartError("the server answered: " + answer);
  constexpr std::string_view kLength = "Content-Length: ";
  const size_t length = answer.find(kLength);
  if (length > head) throw StartError("an answer without its length: " + answer);
  const size_t bytes = std::strtoull(answer.c_str() + length + kLength.size(), nullptr, 10);
  return answer.size() >= head + 4 + bytes;
}

struct Client {
  Descriptor connection;
  std::string answer;
  Clock::time_point begun;
};

}  // namespace

HttpLoadTimes LoadHttp(uint16_t port, size_t connections, size_t requests,
                       const std::function<std::string(size_t)>& request) {
  std::vector<Client> clients(connections);
  std::vector<pollfd> waits(connections);
  for (size_t i = 0; i < connections; ++i) {
    clients[i].connection = Connected(port);
    if (!clients[i].connection) throw StartError("cannot connect to the server");
    waits[i] = {*clients[i].connection, POLLIN, 0};
  }
  size_t sent = 0;
  const auto send_next = [&](Client& client) {
    const std::string bytes = request(sent++);
    client.answer.clear();
    client.begun = Clock::now();
    if (!WriteAll(client.connection, bytes).ok()) throw StartError("the server took no request");
  };
  HttpLoadTimes times;
  const auto begun = Clock::now();
  for (Client& client : clients) {
    if (sent < requests) send_next(client);
  }
  char buffer[kReadBytes];
  while (times.ms.size() < requests) {
    if (poll(waits.data(), waits.size(), kPatienceMs) <= 0) {
      throw StartError("the server does not answer");
    }
    for (size_t i = 0; i < connections; ++i) {
      if (waits[i].revents == 0) continue;
      Client& client = clients[i];
      const ssize_t got = read(*client.connection, buffer, sizeof buffer);
      if (got <= 0) throw StartError("the server closed a connection");
      client.answer.append(buffer, static_cast<size_t>(got));
      if (!IsWhole(client.answer)) continue;
      const std::chrono::duration<double, std::milli> took = Clock::now() - client.begun;
      times.ms.push_back(took.count());
      if (sent < requests) send_next(client);
    }
  }
  times.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  return times;
}

// ---- Streams ------------------------------------------------------------------------------------

namespace {

struct Order {
  uint16_t port = 0;
  uint32_t streams = 0;
  char path[200] = "";
};

}  // namespace

IdleStreams::IdleStreams() {
  int orders[2], reports[2];
  if (pipe(orders) != 0 || pipe(reports) != 0) throw StartError("no pipes are to be had");
  process_ = fork();
  if (process_ < 0) throw StartError("no process is to be had");
  if (process_ == 0) {
    close(orders[1]);
    close(reports[0]);
    Work(Descriptor(orders[0]), Descriptor(reports[1]));
    _exit(0);
  }
  close(orders[0]);
  close(reports[1]);
  orders_ = Descriptor(orders[1]);
  reports_ = Descriptor(reports[0]);
}

IdleStreams::~IdleStreams() {
  orders_ = Descriptor();  // it ends by that
  waitpid(process_, nullptr, 0);
}

// Until nobody gives orders any more.
void IdleStreams::Work(const Descriptor& orders, const Descriptor& reports) {
  std::vector<Descriptor> open;
  for (Order order; read(*orders, &order, sizeof order) == sizeof order;) {
    const std::string request =
        "GET " + std::string(order.path) + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char buffer[kReadBytes];
    uint32_t got = 0;
    for (; got < order.streams; ++got) {
      Descriptor stream = Connected(order.port);
      if (!stream || !WriteAll(stream, request).ok()) break;
      const ssize_t bytes = read(*stream, buffer, sizeof buffer);
      if (bytes < 12 || std::memcmp(buffer, "HTTP/1.1 200", 12) != 0) break;
      open.push_back(std::move(stream));
    }
    if (write(*reports, &got, sizeof got) != sizeof got) return;
  }
}

size_t IdleStreams::Open(uint16_t port, const std::string& path, size_t streams) {
  Order order;
  order.port = port;
  order.streams = static_cast<uint32_t>(streams);
  ENSURE(path.size() < sizeof order.path);
  path.copy(order.path, path.size());
  uint32_t got = 0;
  if (write(*orders_, &order, sizeof order) != sizeof order ||
      read(*reports_, &got, sizeof got) != sizeof got) {
    throw StartError("the process of the streams ended");
  }
  return got;
}

}  // namespace nudge
