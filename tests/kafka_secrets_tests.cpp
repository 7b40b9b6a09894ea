// labels: kafka
// Brokers that want TLS and a password, reached by kafka.properties: with the right secrets all
// works, with wrong ones a sentence says so; the secrets stand nowhere.
#include <boost/test/unit_test.hpp>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "pipeline/bench/event_generator.h"
#include "pipeline/commands/commands.h"
#include "tests/monitor_page.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr const char* kPassword = "correct-horse-battery";
constexpr const char* kWrongPassword = "staple-of-another-kind";
constexpr int kEvents = 40;
constexpr std::chrono::seconds kLimit{120};

std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int Shell(const std::string& line) {
  const int status = std::system(("bash -c '" + line + "'").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A broker whose second listener is SASL_SSL, with a certificate that is made here.
class SecureBroker {
 public:
  SecureBroker() {
    BOOST_REQUIRE(
        Shell("cd " + path() +
              " && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
              " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>openssl.log"
              " && cat key.pem cert.pem >store.pem") == 0);
    for (int attempt = 0; attempt < 5 && !is_up_; ++attempt) {
      port_ = 24'000 + 4 * ((static_cast<int>(getpid()) + 97 * attempt) % 1'000);
      is_up_ = Start();
    }
    BOOST_REQUIRE_MESSAGE(is_up_, "no Kafka broker: run scripts/setup --kafka");
  }
  ~SecureBroker() { Shell(Script() + "stop >/dev/null --folder " + path() + "/kafka"); }
  SecureBroker(const SecureBroker&) = delete;
  SecureBroker& operator=(const SecureBroker&) = delete;

  std::string path() const { return folder_.path(); }
  int monitor_port() const { return port_ + 3; }

  // A configuration file. Nothing of `certificate`: what TLS trusts by default.
  std::string Configuration(const std::string& password, bool with_certificate = true) const {
    const std::string file = path() + "/" + (with_certificate ? password : "untrusting") + ".json";
    std::ofstream(file) << R"({"kafka": {"brokers": "127.0.0.1:)" << port_ + 2
                        << R"(", "group_id": "secret-readers", "instance_id": "1", "properties": {)"
                        << R"("security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",)"
                        << R"("sasl.username": "nudge-user", "sasl.password": ")" << password << '"'
                        << (with_certificate ? R"(, "ssl.ca.location": ")" + path() + "/cert.pem\""
                                             : "")
                        << R"(}}, "output": {"folder": ")" << path()
                        << R"(/out"}, "model": {"backend": "template"}, "monitor": {"port": )"
                        << monitor_port() << "}}";
    return file;
  }

 private:
  static std::string Script() { return std::string(NUDGE_SOURCE_DIR) + "/scripts/kafka "; }

  bool Start() const {
    const auto at = [&](int more) { return "://127.0.0.1:" + std::to_string(port_ + more); };
    const std::string open = "PLAINTEXT" + at(0);
    const std::string secure = ",SECURE" + at(2);
    const auto set = [](const std::string& setting) { return " --set \"" + setting + "\""; };
    return Shell(Script() + "start >/dev/null --folder " + path() + "/kafka --port " +
                 std::to_string(port_) + " --while " + std::to_string(getpid()) +
                 set("listeners=" + open + ",CONTROLLER" + at(1) + secure) +
                 set("advertised.listeners=" + open + secure) +
                 set("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
                     "SECURE:SASL_SSL") +
                 set("ssl.keystore.type=PEM") +
                 set("ssl.keystore.location=" + path() + "/store.pem") +
                 set("listener.name.secure.sasl.enabled.mechanisms=PLAIN") +
                 set("listener.name.secure.plain.sasl.jaas.config="
                     "org.apache.kafka.common.security.plain.PlainLoginModule required "
                     "user_nudge-user=\\\"" +
                     std::string(kPassword) + "\\\";")) == 0;
  }

  const TempFolder folder_;
  int port_ = 0;
  bool is_up_ = false;
};

// `nudge run`, beside this process.
class Run {
 public:
  Run(const SecureBroker& broker, const std::string& configuration) : path_(broker.path()) {
    Shell("(" NUDGE_BINARY " run " + configuration + " >" + log() + " 2>&1 & echo $! >" + path_ +
          "/pid; wait $!; echo $? >" + path_ + "/code) &");
  }
  ~Run() {
    if (TextOf(path_ + "/code").empty()) kill(pid(), SIGKILL);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  std::string log() const { return path_ + "/run.log"; }
  bool has_ended() const { return !TextOf(path_ + "/code").empty(); }
  int Stop() const {
    kill(pid(), SIGTERM);
    const auto deadline = std::chrono::steady_clock::now() + kLimit;
    while (!has_ended() && std::chrono::steady_clock::now() < deadline) Pause();
    BOOST_REQUIRE(has_ended());
    return std::stoi(TextOf(path_ + "/code"));
  }
  static void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }

 private:
  int pid() const { return std::stoi("0" + TextOf(path_ + "/pid")); }
  const std::string path_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_broker_with_tls_and_a_password_is_served_and_the_password_stands_nowhere) {
  const SecureBroker broker;
  const std::string configuration = broker.Configuration(kPassword);
  {
    EventGenerator generator({.events = kEvents, .with_faults = false});
    std::ofstream file(broker.path() + "/events.jsonl");
    for (const std::string& line : generator.All()) file << line << '\n';
  }
  const std::string published = broker.path() + "/publish.log";
  BOOST_REQUIRE(Shell(NUDGE_BINARY " publish --create-topics " + configuration + " " +
                      broker.path() + "/events.jsonl >" + published + " 2>&1") == kExitDone);
  const Run run(broker, configuration);
  const auto port = static_cast<uint16_t>(broker.monitor_port());
  const auto deadline = std::chrono::steady_clock::now() + kLimit;
  while (!run.has_ended() && !Has(TextOf(run.log()), "serving")) Run::Pause();
  std::string status;
  int outcomes = 0;
  while (outcomes < kEvents && !run.has_ended() && std::chrono::steady_clock::now() < deadline) {
    Run::Pause();
    status = Send(port, "GET /status HTTP/1.0\r\n\r\n");
    const auto json = nlohmann::json::parse(status.substr(status.find("\r\n\r\n")), nullptr, false);
    if (!json.is_object() || !json.contains("outcomes")) continue;
    outcomes = 0;
    for (const auto& [kind, count] : json["outcomes"].items()) outcomes += count.get<int>();
  }
  BOOST_TEST(outcomes == kEvents);
  const std::string metrics = Send(port, "GET /metrics HTTP/1.0\r\n\r\n");
  BOOST_TEST(Has(metrics, "nudge_kafka_brokers_up"));
  BOOST_TEST(run.Stop() == kExitDone);
  const std::string said = TextOf(run.log());
  BOOST_TEST(Has(said, std::to_string(kEvents) + " events"));
  for (const std::string& text : {said, status, metrics, TextOf(published)}) {
    BOOST_TEST(!text.empty());
    BOOST_TEST(!Has(text, kPassword));
    BOOST_TEST(!Has(text, "nudge-user"));
  }
}

BOOST_AUTO_TEST_CASE(a_wrong_password_and_an_unknown_certificate_end_with_a_sentence) {
  const SecureBroker broker;
  const auto refused = [&](const std::string& configuration) {
    const std::string log = broker.path() + "/refused.log";
    const auto begun = std::chrono::steady_clock::now();
    BOOST_TEST(Shell(NUDGE_BINARY " run " + configuration + " >" + log + " 2>&1") == kExitUsage);
    BOOST_TEST((std::chrono::steady_clock::now() - begun < kLimit));
    const std::string said = TextOf(log);
    BOOST_TEST_MESSAGE(said);
    BOOST_TEST(Has(said, "cannot log in to Kafka"));
    BOOST_TEST(Has(said, "kafka.properties"));
    BOOST_TEST(!Has(said, kPassword));
    BOOST_TEST(!Has(said, kWrongPassword));
  };
  refused(broker.Configuration(kWrongPassword));
  refused(broker.Configuration(kPassword, false));
}
