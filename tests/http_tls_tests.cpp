// labels: unit graph
// The HTTP server behind TLS: real handshakes, files that are renewed, clients that stop halfway.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <thread>

#include <openssl/ssl.h>

#include "connectors/http/http_server.h"
#include "tests/http_client.h"
#include "tests/http_door.h"
#include "tests/snapshot_sample.h"
#include "tests/temp_folder.h"
#include "tests/tls_pair.h"

using namespace nudge;
using namespace nudge::testing;
using std::chrono::milliseconds;

namespace {

struct Seen {
  bool connected = false;
  std::string version;
  std::string name;  // of the certificate
  std::string answer;
};

// A client of TLS of this version at most.
class TlsClient {
 public:
  explicit TlsClient(uint16_t port, int version_most = TLS1_3_VERSION)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free), wire_(nullptr, BIO_free_all) {
    SSL_CTX_set_security_level(context_.get(), 0);  // so that what is too old is offered at all
    SSL_CTX_set_max_proto_version(context_.get(), version_most);
    wire_.reset(BIO_new_ssl_connect(context_.get()));
    BIO_set_conn_hostname(wire_.get(), ("127.0.0.1:" + std::to_string(port)).c_str());
    connected_ = BIO_do_connect(wire_.get()) > 0 && BIO_do_handshake(wire_.get()) > 0;
  }

  SSL* ssl() const {
    SSL* ssl = nullptr;
    if (connected_) BIO_get_ssl(wire_.get(), &ssl);
    return ssl;
  }
  void Send(const std::string& bytes) {
    BIO_write(wire_.get(), bytes.data(), static_cast<int>(bytes.size()));
  }
  // Until the mark is there, or the end.
  std::string ReadTo(const std::string& mark) {
    std::string read;
    char buffer[16 << 10];
    while (mark.empty() || read.find(mark) == std::string::npos) {
      const int got = BIO_read(wire_.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      read.append(buffer, static_cast<size_t>(got));
    }
    return read;
  }

 private:
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<BIO, void (*)(BIO*)> wire_;
  bool connected_ = false;
};

// One request and its answer.
Seen Ask(uint16_t port, const std::string& request, int version_most = TLS1_3_VERSION) {
  Seen seen;
  TlsClient client(port, version_most);
  SSL* const ssl = client.ssl();
  if (ssl == nullptr) return seen;
  seen.connected = true;
  seen.version = SSL_get_version(ssl);
  const std::unique_ptr<X509, void (*)(X509*)> shown(SSL_get1_peer_certificate(ssl), X509_free);
  char name[100] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()), NID_commonName, name, sizeof name);
  seen.name = name;
  client.Send(request);
  seen.answer = client.ReadTo("");
  return seen;
}

const std::string kOnce = Request("GET", "/healthz", "", "Connection: close\r\n");

class Secured {
 public:
  Secured() {
    Write("first");
    options.port = 0;
    options.tls_certificate_file = certificate();
    options.tls_key_file = key();
  }
  std::string certificate() const { return folder.path() + "/certificate.pem"; }
  std::string key() const { return folder.path() + "/key.pem"; }
  void Write(const std::string& name) const { WriteTlsPair(certificate(), key(), name); }

  std::string WhyNot() {
    try {
      const HttpServer server(options, door);
    } catch (const StartError& error) {
      return error.what();
    }
    return "";
  }

  TempFolder folder;
  HttpOptions options;
  StandInDoor door;
};

}  // namespace

BOOST_AUTO_TEST_CASE(requests_are_answered_through_tls_1_2_and_1_3_and_through_nothing_older) {
  Secured world;
  const HttpServer server(world.options, world.door);
  const Seen now = Ask(server.port(), kOnce);
  BOOST_TEST(now.version == "TLSv1.3");
  BOOST_TEST(now.name == "first");
  BOOST_TEST(now.answer.starts_with("HTTP/1.1 200 OK\r\n"), now.answer);
  BOOST_TEST(now.answer.ends_with("alive\n"), now.answer);
  BOOST_TEST(Ask(server.port(), kOnce, TLS1_2_VERSION).version == "TLSv1.2");
  BOOST_TEST(!Ask(server.port(), kOnce, TLS1_1_VERSION).connected);
  // Plain HTTP is nothing here, and harms nobody.
  Connection plain(server.port());
  plain.Send(kOnce);
  BOOST_TEST(plain.Receive().status == 0);
  const std::string body = R"({"model":"stand-in","stream":true,)"
                           R"("messages":[{"role":"user","content":"Hello?"}]})";
  world.door.Stream({"You ", "asked"});
  const Seen stream =
      Ask(server.port(), Request("POST", "/v1/chat/completions", body, "Connection: close\r\n"));
  BOOST_TEST(stream.answer.find("data: [DONE]\n\n") != std::string::npos, stream.answer);
}

BOOST_AUTO_TEST_CASE(a_large_file_comes_whole_through_tls) {
  Secured world;
  const SnapshotRef snapshot = WriteSample(world.folder.path() + "/snapshots", "acme", 7, 1, 128);
  world.door.ServeSnapshots(world.folder.path() + "/snapshots");
  const HttpServer server(world.options, world.door);
  const Seen seen = Ask(server.port(), Request("GET", "/v1/adapters/acme/7/adapter.gguf", "",
                                               "Connection: close\r\n"));
  const size_t body = seen.answer.find("\r\n\r\n") + 4;
  BOOST_TEST(Sha256Hex(seen.answer.substr(body)) == snapshot.sha256);
}

BOOST_AUTO_TEST_CASE(a_stream_of_news_lives_on_through_tls) {
  Secured world;
  world.options.beat = milliseconds(20);
  const HttpServer server(world.options, world.door);
  TlsClient client(server.port());
  client.Send(Request("GET", "/v1/adapters/acme/events"));
  BOOST_TEST(client.ReadTo("event: ready\n").find("event: ready\n") != std::string::npos);
  for (int i = 0; i < 3; ++i) BOOST_TEST(client.ReadTo(":\n\n") != "");
}

BOOST_AUTO_TEST_CASE(a_renewed_certificate_is_taken_up_and_a_wrong_one_is_not) {
  Secured world;
  const HttpServer server(world.options, world.door);
  const auto name = [&] { return Ask(server.port(), kOnce).name; };
  const auto wait_for = [&](const std::string& wanted) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (name() != wanted && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(milliseconds(50));
    }
    BOOST_TEST(name() == wanted);
  };
  BOOST_TEST(name() == "first");
  world.Write("second");
  wait_for("second");
  std::ofstream(world.certificate()) << "nonsense";
  std::this_thread::sleep_for(milliseconds(3'500));
  BOOST_TEST(name() == "second");
  // The right certificate beside another's key is wrong, too.
  WriteTlsPair(world.certificate(), world.folder.path() + "/other.pem", "third");
  std::this_thread::sleep_for(milliseconds(3'500));
  BOOST_TEST(name() == "second");
  std::filesystem::remove(world.key());
  std::filesystem::rename(world.folder.path() + "/other.pem", world.key());
  wait_for("third");
}

BOOST_AUTO_TEST_CASE(whoever_does_not_finish_the_handshake_is_cut_off) {
  Secured world;
  world.options.header_timeout = milliseconds(100);
  const HttpServer server(world.options, world.door);
  Connection silent(server.port());
  BOOST_TEST(silent.ReadToEnd() == "");
  Connection half(server.port());
  half.Send(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9));  // the head of a ClientHello
  half.ReadToEnd();
  BOOST_TEST(Ask(server.port(), kOnce).connected);
}

BOOST_AUTO_TEST_CASE(files_that_are_no_pair_are_refused_at_the_start) {
  Secured world;
  BOOST_TEST(world.WhyNot() == "");
  world.options.tls_key_file.clear();
  BOOST_TEST(world.WhyNot().find("give both, or neither") != std::string::npos);
  world.options.tls_key_file = world.folder.path() + "/none.pem";
  BOOST_TEST(world.WhyNot().find("none.pem") != std::string::npos);
  WriteTlsPair(world.folder.path() + "/other-certificate.pem", world.folder.path() + "/other.pem",
               "other");
  world.options.tls_key_file = world.folder.path() + "/other.pem";
  BOOST_TEST(world.WhyNot() != "");
  world.options.tls_key_file = world.key();
  world.options.tls_certificate_file = world.key();
  BOOST_TEST(world.WhyNot().find("key.pem") != std::string::npos);
  // TLS makes no keys: who may call is still to be said before others reach it.
  world.options.tls_certificate_file = world.certificate();
  world.options.address = "0.0.0.0";
  BOOST_TEST(world.WhyNot().find("http.keys_file") != std::string::npos);
}
