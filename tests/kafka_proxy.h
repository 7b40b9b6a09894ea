// Network faults at exact places of the Kafka protocol, for tests.
//
//   client -> [KafkaProxy] -> broker
//
// The broker has a listener of its own for what comes through the proxy, which tells clients to
// come back to the proxy (scripts/kafka start --advertise); whoever uses the broker's own address
// meets no fault. The proxy reads frames: 4 bytes of size, then for a request its API (2 bytes),
// version (2) and correlation id (4), for an answer the correlation id, all big-endian (Kafka's
// protocol guide, "Protocol Primitive Types" and "Request and Response Headers").
//
// One thread of its own moves the bytes; any thread may call the rest.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace nudge::testing {

enum class KafkaApi : int16_t {
  kProduce = 0,
  kFetch = 1,
  kListOffsets = 2,
  kMetadata = 3,
  kOffsetFetch = 9,
  kFindCoordinator = 10,
  kJoinGroup = 11,
  kHeartbeat = 12,
  kLeaveGroup = 13,
  kSyncGroup = 14,
  kInitProducerId = 22,
  kAddPartitionsToTxn = 24,
  kAddOffsetsToTxn = 25,
  kEndTxn = 26,
  kTxnOffsetCommit = 28,
};

class KafkaProxy {
 public:
  enum class Moment {
    kRequest,  // it has not reached the broker
    kAnswer,   // the broker has done it, and the client does not know
  };
  enum class Act {
    kCut,      // the connection ends there, and with it what is under way in it
    kSwallow,  // this frame is lost, the connection goes on
    kWatch,    // nothing: it is counted
    kHold,     // this frame and those after it in the same direction of the connection wait for
               // Release or CutAll; a held request is delivered even if its sender has died
  };
  static constexpr int kForEver = 1 << 30;

  // Passes on to 127.0.0.1:`broker_port`, where nothing need listen yet.
  explicit KafkaProxy(int broker_port) : broker_port_(broker_port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        listen(listener_, 64) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("the proxy cannot listen");
    }
    port_ = ntohs(address.sin_port);
    bell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    thread_ = std::thread([this] { Work(); });
  }
  ~KafkaProxy() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    Ring();
    thread_.join();
    for (const Connection& connection : connections_) CloseBoth(connection);
    close(listener_);
    close(bell_);
  }
  KafkaProxy(const KafkaProxy&) = delete;
  KafkaProxy& operator=(const KafkaProxy&) = delete;

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // The `nth` frame (1, 2, ...) of the kind from now on, and those that follow until `times` have
  // been met. Replaces what was armed before, and counts bites from 0.
  void Arm(KafkaApi api, Moment moment, Act act, int nth = 1, int times = 1) {
    const std::lock_guard lock(mutex_);
    rule_ = {static_cast<int16_t>(api), moment, act, nth, times};
    bites_ = 0;
  }
  void Disarm() {
    const std::lock_guard lock(mutex_);
    rule_.times = 0;
  }

  // How often what was armed has happened.
  int bites() const {
    const std::lock_guard lock(mutex_);
    return bites_;
  }
  // Until it has happened that often; false: it did not, in that time.
  bool WaitForBites(int count = 1, std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [&] { return bites_ >= count; });
  }

  // Disarms; what is held goes on its way. Returns once the requests of senders that have died are
  // answered, or after `timeout` (false).
  bool Release(std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
    std::unique_lock lock(mutex_);
    rule_.times = 0;
    release_ = true;
    lock.unlock();
    Ring();
    lock.lock();
    return changed_.wait_for(lock, timeout, [&] { return !release_ && orphans_ == 0; });
  }

  // Disarms; every connection ends, and what is held is lost. With `refuse`, new ones end as well
  // until Admit.
  void CutAll(bool refuse = false) {
    std::unique_lock lock(mutex_);
    rule_.times = 0;
    cut_ = true;
    refuse_ = refuse;
    lock.unlock();
    Ring();
    lock.lock();
    changed_.wait(lock, [&] { return !cut_; });
  }
  void Admit() {
    const std::lock_guard lock(mutex_);
    refuse_ = false;
  }

  // Nothing moves in any connection, old or new, until Release or CutAll.
  void StandStill() {
    const std::lock_guard lock(mutex_);
    rule_.times = 0;
    stands_still_ = true;
    Ring();
  }

 private:
  struct Rule {
    int16_t api = 0;
    Moment moment = Moment::kRequest;
    Act act = Act::kCut;
    int nth = 1;
    int times = 0;
  };
  // One direction: what came in and is no whole frame yet, what is held, what is to be sent.
  struct Flow {
    std::string in, held, out;
    bool is_held = false;
  };
  struct Connection {
    int client = -1;  // -1: has gone
    int server = -1;
    Flow requests, answers;
    std::map<int32_t, int16_t> asked;  // correlation id -> API, of requests without an answer
    bool is_over = false;
  };
  static constexpr size_t kBuffered = 4 << 20;  // bytes to be sent; more are not read
  static constexpr uint32_t kLargestFrame = 256 << 20;

  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }
  static void CloseBoth(const Connection& connection) {
    if (connection.client >= 0) close(connection.client);
    if (connection.server >= 0) close(connection.server);
  }
  void Ring() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(bell_, &one, sizeof one);
  }

  void Work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      const bool obeyed = release_;
      Obey();
      std::vector<pollfd> watched = {{listener_, POLLIN, 0}, {bell_, POLLIN, 0}};
      for (const Connection& connection : connections_) Watch(connection, watched);
      lock.unlock();
      poll(watched.data(), watched.size(), -1);
      uint64_t rung = 0;
      [[maybe_unused]] const ssize_t read_bytes = read(bell_, &rung, sizeof rung);
      lock.lock();
      size_t i = 2;
      for (Connection& connection : connections_) {
        const short client = watched[i++].revents;
        const short server = watched[i++].revents;
        Serve(connection, client, server);
      }
      if ((watched[0].revents & POLLIN) != 0) Accept();
      std::erase_if(connections_, [](const Connection& connection) {
        if (connection.is_over) CloseBoth(connection);
        return connection.is_over;
      });
      orphans_ = std::count_if(connections_.begin(), connections_.end(),
                               [](const Connection& each) { return each.client < 0; });
      if (obeyed) release_ = false;
      changed_.notify_all();
    }
  }

  // What callers asked for since the last round.
  void Obey() {
    if (release_ || cut_) stands_still_ = false;
    for (Connection& connection : connections_) {
      if (cut_) connection.is_over = true;
      if (!release_) continue;
      for (Flow* flow : {&connection.requests, &connection.answers}) {
        flow->out += std::exchange(flow->held, "");
        flow->is_held = false;
      }
    }
    if (cut_) {
      for (const Connection& connection : connections_) CloseBoth(connection);
      connections_.clear();
      orphans_ = 0;
    }
    cut_ = false;
    changed_.notify_all();
  }

  void Watch(const Connection& connection, std::vector<pollfd>& watched) const {
    const auto events = [&](const Flow& from, const Flow& to) {
      if (stands_still_) return short{0};
      return static_cast<short>((from.out.size() < kBuffered ? POLLIN : 0) |
                                (to.out.empty() ? 0 : POLLOUT));
    };
    // A negative descriptor is passed over by poll. One that stands still is not watched at all,
    // else a peer that has gone would wake us again and again.
    const auto put = [&](int descriptor, short wanted) {
      watched.push_back({wanted == 0 ? -1 : descriptor, wanted, 0});
    };
    put(connection.client, events(connection.requests, connection.answers));
    put(connection.server, events(connection.answers, connection.requests));
  }

  void Accept() {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    const sockaddr_in address = Loopback(broker_port_);
    const int server = refuse_ ? -1 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 ||
        connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      if (server >= 0) close(server);
      close(client);
      return;
    }
    const int one = 1;
    for (const int end : {client, server}) {
      setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    Connection& connection = connections_.emplace_back();
    connection.client = client;
    connection.server = server;
  }

  void Serve(Connection& connection, short client, short server) {
    constexpr short kReadable = POLLIN | POLLHUP | POLLERR;
    if ((client & kReadable) != 0 && !Read(connection.client, connection.requests.in)) {
      Bury(connection);
    }
    if ((server & kReadable) != 0 && !Read(connection.server, connection.answers.in)) {
      connection.is_over = true;
    }
    while (!connection.is_over && NextFrame(connection, Moment::kRequest)) continue;
    while (!connection.is_over && NextFrame(connection, Moment::kAnswer)) continue;
    if (connection.is_over || stands_still_) return;
    if (!Write(connection.server, connection.requests.out)) connection.is_over = true;
    if (connection.client >= 0) {
      if (!Write(connection.client, connection.answers.out)) Bury(connection);
    } else {
      connection.answers.out.clear();
      if (connection.asked.empty() && connection.requests.held.empty()) connection.is_over = true;
    }
  }

  // The client has gone; what it sent still counts.
  static void Bury(Connection& connection) {
    if (connection.client >= 0) close(connection.client);
    connection.client = -1;
  }

  // false: the peer has gone.
  static bool Read(int descriptor, std::string& bytes) {
    constexpr size_t kPart = 256 << 10;
    const size_t before = bytes.size();
    bytes.resize(before + kPart);
    const ssize_t count = recv(descriptor, bytes.data() + before, kPart, MSG_DONTWAIT);
    bytes.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
  }
  static bool Write(int descriptor, std::string& bytes) {
    if (bytes.empty()) return true;
    const ssize_t count = send(descriptor, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    bytes.erase(0, static_cast<size_t>(count));
    return true;
  }

  static uint32_t Number(std::string_view bytes, size_t at, size_t count) {
    uint32_t number = 0;
    for (size_t i = 0; i < count; ++i) number = number << 8 | static_cast<uint8_t>(bytes[at + i]);
    return number;
  }

  // Moves one whole frame on, or does with it what is armed; false: there is none.
  bool NextFrame(Connection& connection, Moment moment) {
    const bool is_request = moment == Moment::kRequest;
    Flow& flow = is_request ? connection.requests : connection.answers;
    const size_t head = is_request ? 12 : 8;
    if (flow.in.size() < head) return false;
    const uint32_t size = Number(flow.in, 0, 4);
    if (size > kLargestFrame || size + 4 < head) {
      connection.is_over = true;  // not Kafka's protocol
      return false;
    }
    if (flow.in.size() < size + 4) return false;
    std::string frame = flow.in.substr(0, size + 4);
    flow.in.erase(0, size + 4);
    const auto id = static_cast<int32_t>(Number(frame, is_request ? 8 : 4, 4));
    int16_t api = -1;
    if (is_request) {
      api = static_cast<int16_t>(Number(frame, 4, 2));
      // A producer that wants no answers is none of nudge's: each request is answered.
      connection.asked[id] = api;
    } else if (const auto asked = connection.asked.extract(id); asked) {
      api = asked.mapped();
    }
    if (Bites(api, moment)) {
      if (rule_.act == Act::kCut) connection.is_over = true;
      if (rule_.act == Act::kSwallow && is_request) connection.asked.erase(id);
      if (rule_.act == Act::kCut || rule_.act == Act::kSwallow) return true;
      if (rule_.act == Act::kHold) flow.is_held = true;
    }
    (flow.is_held ? flow.held : flow.out) += frame;
    return true;
  }

  bool Bites(int16_t api, Moment moment) {
    if (rule_.times == 0 || api != rule_.api || moment != rule_.moment) return false;
    if (--rule_.nth > 0) return false;
    --rule_.times;
    ++bites_;
    changed_.notify_all();
    return true;
  }

  const int broker_port_;
  int listener_ = -1;
  int bell_ = -1;  // an eventfd that wakes the thread
  int port_ = 0;
  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  Rule rule_;
  int bites_ = 0;
  bool release_ = false;
  bool cut_ = false;
  bool refuse_ = false;
  bool stands_still_ = false;
  bool stopping_ = false;
  std::ptrdiff_t orphans_ = 0;  // connections whose client has died, with requests to be answered
  std::list<Connection> connections_;
  std::thread thread_;
};

}  // namespace nudge::testing
