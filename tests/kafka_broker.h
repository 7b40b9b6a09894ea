// A real Kafka broker for a suite, and small tools around it. Needs scripts/setup --kafka; a suite
// that cannot have a broker fails.
#pragma once

#include <arpa/inet.h>
#include <librdkafka/rdkafka.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "connectors/codec.h"
#include "connectors/kafka.h"
#include "tests/kafka_proxy.h"
#include "tests/temp_folder.h"

namespace nudge::testing {

// One broker on ports and a folder of its own, and a proxy before a listener of its own; it ends
// with this object, or else with the process.
class KafkaBroker {
 public:
  KafkaBroker() {
    for (int attempt = 0; attempt < 5; ++attempt) {
      port_ = FreePort();
      proxy_ = std::make_unique<KafkaProxy>(port_ + 2);
      if (Script("start")) return;
    }
    throw std::runtime_error("no Kafka broker: run scripts/setup --kafka; see " + folder_.path());
  }
  ~KafkaBroker() { Script("stop"); }
  KafkaBroker(const KafkaBroker&) = delete;
  KafkaBroker& operator=(const KafkaBroker&) = delete;

  void Stop() { Require(Script("stop")); }
  void Start() { Require(Script("start")); }

  // As a crash would end it. Returns when nothing listens at its ports any more.
  void Kill() {
    Signal(SIGKILL);
    while (Listens(port_) || Listens(port_ + 1) || Listens(port_ + 2)) usleep(10'000);
  }

  // The broker's process stands still, with its connections open, until Thaw.
  void Freeze() { Signal(SIGSTOP); }
  void Thaw() { Signal(SIGCONT); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // Whoever connects to its address meets what is armed there.
  KafkaProxy& proxy() { return *proxy_; }

  // The broker of the suite, started when it is first asked for.
  static KafkaBroker& OfTheSuite() {
    static KafkaBroker broker;
    return broker;
  }

 private:
  void Signal(int signal) const {
    pid_t pid = 0;
    std::ifstream(folder_.path() + "/kafka/pid") >> pid;
    Require(pid > 1 && kill(pid, signal) == 0);
  }

  static void Require(bool done) {
    if (!done) throw std::runtime_error("scripts/kafka failed");
  }

  // What `call` (bind or connect) says about a port.
  template <class Call>
  static bool Succeeds(const Call& call, int port) {
    const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const bool succeeds =
        call(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    close(descriptor);
    return succeeds;
  }
  static bool IsFree(int port) { return Succeeds(bind, port); }
  static bool Listens(int port) { return Succeeds(connect, port); }

  // Three in a row below the range that the system gives to connections; suites side by side begin
  // at different places.
  static int FreePort() {
    constexpr int kFirst = 20'000;
    constexpr int kCount = 4'000;
    static int next = static_cast<int>(getpid()) * 37;
    while (true) {
      const int port = kFirst + 3 * (next++ % kCount);
      if (IsFree(port) && IsFree(port + 1) && IsFree(port + 2)) return port;
    }
  }

  // A controller gives a broker that was killed its place back when the session of the one before
  // is over: 9 s by default, which each crash would wait for. Transactions that last too long are
  // looked for every 10 s by default.
  bool Script(const std::string& command) const {
    const std::string line =
        std::string(NUDGE_SOURCE_DIR) + "/scripts/kafka " + command + " --folder " +
        folder_.path() + "/kafka" +
        (command == "start"
             ? " --port " + std::to_string(port_) + " --advertise " +
                   std::to_string(proxy_->port()) + " --while " + std::to_string(getpid()) +
                   " --set broker.session.timeout.ms=4000 --set broker.heartbeat.interval.ms=500"
                   " --set transaction.abort.timed.out.transaction.cleanup.interval.ms=1000"
             : "") +
        " >/dev/null";
    return std::system(line.c_str()) == 0;
  }

  const TempFolder folder_;
  int port_ = 0;
  std::unique_ptr<KafkaProxy> proxy_;
};

// Topics of its own for each test: "<name>-in" and so on.
inline KafkaOptions OptionsFor(const std::string& brokers, const std::string& name) {
  KafkaOptions options;
  options.brokers = brokers;
  options.group_id = name;
  options.instance_id = "one";
  options.input_topic = name + "-in";
  options.response_topic = name + "-responses";
  options.receipt_topic = name + "-receipts";
  options.dead_letter_topic = name + "-dead";
  options.session_timeout = std::chrono::milliseconds(6'000);
  options.commit_timeout = std::chrono::milliseconds(60'000);
  return options;
}

// Outcomes with a chain, as emit would make them.
class ChainOfOutcomes {
 public:
  OutcomeLine Make(int32_t partition, int64_t offset, const std::string& key,
                   const std::string& text) {
    OutcomeLine line{partition, offset, static_cast<OutcomeKind>(offset % 3), key, ""};
    line.bytes = "{\"offset\":\"" + std::to_string(offset) + "\",\"text\":\"" + text + "\"}";
    digest_ = NextChain(digest_, offset, line.bytes);
    AppendChain(digest_, line.bytes);
    return line;
  }

  void GoOnAfter(const std::string& hex) {
    for (size_t i = 0; i < digest_.size(); ++i) {
      digest_[i] = static_cast<uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
    }
  }

 private:
  Sha256Digest digest_{};
};

// A producer that sends what it is told to where it is told to.
class RawProducer {
 public:
  explicit RawProducer(const std::string& brokers) {
    char text[256];
    rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
    rd_kafka_conf_set(configuration, "bootstrap.servers", brokers.c_str(), text, sizeof text);
    rd_kafka_conf_set(configuration, "message.max.bytes", "1040000", text, sizeof text);
    rd_kafka_conf_set(configuration, "log_level", "2", text, sizeof text);
    handle_ = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, text, sizeof text);
  }
  ~RawProducer() { rd_kafka_destroy(handle_); }
  RawProducer(const RawProducer&) = delete;
  RawProducer& operator=(const RawProducer&) = delete;

  // Without bytes: a tombstone.
  void Send(const std::string& topic, int32_t partition, const std::optional<std::string>& key,
            const std::optional<std::string>& bytes,
            const std::vector<std::pair<std::string, std::string>>& headers = {}) {
    const char* const key_data = key ? key->data() : nullptr;
    const size_t key_size = key ? key->size() : 0;
    void* const value = bytes ? const_cast<char*>(bytes->data()) : nullptr;
    const size_t size = bytes ? bytes->size() : 0;
    rd_kafka_headers_t* const list = rd_kafka_headers_new(headers.size());
    for (const auto& [name, words] : headers) {
      rd_kafka_header_add(list, name.data(), static_cast<ssize_t>(name.size()), words.data(),
                          static_cast<ssize_t>(words.size()));
    }
    const rd_kafka_resp_err_t code = rd_kafka_producev(
        handle_, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_KEY(key_data, key_size), RD_KAFKA_V_VALUE(value, size), RD_KAFKA_V_HEADERS(list),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK), RD_KAFKA_V_END);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return;
    rd_kafka_headers_destroy(list);
    throw std::runtime_error(rd_kafka_err2str(code));
  }
  void Flush() {
    if (rd_kafka_flush(handle_, 30'000) != 0) throw std::runtime_error("messages not delivered");
  }
  rd_kafka_t* handle() { return handle_; }

 private:
  rd_kafka_t* handle_;
};

struct Stored {
  int64_t position;
  std::string key;
  std::string bytes;
};

// All that a reader sees of a partition now.
inline std::vector<Stored> ReadAll(const std::string& brokers, const std::string& topic,
                                   int32_t partition,
                                   const std::string& isolation = "read_committed") {
  char text[256];
  rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"bootstrap.servers", brokers},
                                          {"group.id", "nudge-test-reader"},
                                          {"enable.auto.commit", "false"},
                                          {"enable.partition.eof", "true"},
                                          {"auto.offset.reset", "earliest"},
                                          {"isolation.level", isolation},
                                          {"fetch.wait.max.ms", "20"}}) {
    rd_kafka_conf_set(configuration, name.c_str(), value.c_str(), text, sizeof text);
  }
  rd_kafka_t* const handle = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, text, sizeof text);
  rd_kafka_poll_set_consumer(handle);
  rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic.c_str(), partition)->offset = 0;
  rd_kafka_assign(handle, list);
  rd_kafka_topic_partition_list_destroy(list);
  std::vector<Stored> stored;
  while (true) {
    rd_kafka_message_t* const message = rd_kafka_consumer_poll(handle, 10'000);
    if (message == nullptr) throw std::runtime_error("cannot read " + topic);
    const bool ends = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      stored.push_back({message->offset,
                        {static_cast<const char*>(message->key), message->key_len},
                        {static_cast<const char*>(message->payload), message->len}});
    }
    rd_kafka_message_destroy(message);
    if (ends) break;
  }
  rd_kafka_consumer_close(handle);
  rd_kafka_destroy(handle);
  return stored;
}

}  // namespace nudge::testing
