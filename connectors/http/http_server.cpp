#include "connectors/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "connectors/http/session.h"
#include "connectors/http/tls_files.h"
#include "stages/log.h"

namespace nudge {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kAcceptPause{50};
constexpr milliseconds kLookEvery{1'000};
constexpr size_t kErrandThreads = 2;  // which wait for the disk
// How long the server's end waits for answers that are on their way.
constexpr milliseconds kEndWait{1'000};
constexpr milliseconds kEndStep{2};

}  // namespace

struct HttpServer::Core {
  Core(const HttpOptions& options, Door& door, const EventLimits& limits)
      : service(options, door, limits),
        shop{options, service, door, errands},
        acceptor(net::make_strand(context)),
        retry(acceptor.get_executor()),
        look(acceptor.get_executor()) {
    if (!options.tls_certificate_file.empty()) {
      tls.emplace(options.tls_certificate_file, options.tls_key_file);
      LookAtFiles();
    }
    Listen(options);
    Accept();
    for (uint32_t i = 0; i < options.threads; ++i) threads.emplace_back([this] { Work(); });
  }

  ~Core() {
    shop.is_ending = true;
    const auto end = std::chrono::steady_clock::now() + kEndWait;
    while (shop.answering > 0 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(kEndStep);
    }
    mailbox->Close();
    context.stop();
    for (std::thread& thread : threads) thread.join();
    errands.stop();  // what has not begun does not begin
    errands.join();
  }

  // A defect ends the connection that it shows on, not the process.
  void Work() {
    for (;;) {
      try {
        context.run();
        return;
      } catch (const std::exception& error) {
        Log(LogLevel::kError, std::string("http: a connection ends: ") + error.what());
      }
    }
  }

  void Listen(const HttpOptions& options) {
    const std::string port_text = std::to_string(options.port);
    error_code error;
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(options.address, port_text, tcp::resolver::passive, error);
    if (!error) {
      const tcp::endpoint endpoint = *found.begin();
      acceptor.open(endpoint.protocol(), error);
      if (!error) acceptor.set_option(net::socket_base::reuse_address(true), error);
      if (!error) acceptor.bind(endpoint, error);
      if (!error) acceptor.listen(net::socket_base::max_listen_connections, error);
    }
    if (error) {
      throw StartError("http: cannot listen on " + options.address + ":" + port_text + ": " +
                       error.message() + ": choose another http.port or http.address");
    }
    port = acceptor.local_endpoint().port();
  }

  void Accept() {
    acceptor.async_accept(net::make_strand(context), [this](error_code error, tcp::socket socket) {
      if (error == net::error::operation_aborted) return;
      if (!error) {
        Accept();
        socket.set_option(tcp::no_delay(true), error);  // a small piece goes at once
        std::make_shared<Session>(std::move(socket), tls ? tls->context() : nullptr, shop, mailbox)
            ->Start();
        return;
      }
      // Out of descriptors, say: it goes on once some are given back.
      retry.expires_after(kAcceptPause);
      retry.async_wait([this](error_code aborted) {
        if (!aborted) Accept();
      });
    });
  }

  void LookAtFiles() {
    look.expires_after(kLookEvery);
    look.async_wait([this](error_code aborted) {
      if (aborted) return;
      const auto news = tls->Look();
      if (news && news->ok()) {
        Log(LogLevel::kInfo, "http: the certificate was read anew, for new connections");
      } else if (news) {
        Log(LogLevel::kWarning, "http: the new certificate is not used, the one before stays: " +
                                    news->error().message);
      }
      LookAtFiles();
    });
  }

  // Sessions lie in the context's queues, and go before what they use.
  const std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
  HttpService service;
  net::thread_pool errands{kErrandThreads};
  Shop shop;
  net::io_context context;
  tcp::acceptor acceptor;
  net::steady_timer retry;
  net::steady_timer look;  // for files of TLS that change
  std::optional<TlsFiles> tls;
  uint16_t port = 0;
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(const HttpOptions& options, Door& door, const EventLimits& limits)
    : core_(std::make_unique<Core>(options, door, limits)) {}

HttpServer::~HttpServer() = default;

HttpCounts HttpServer::counts() const {
  HttpCounts counts;
  core_->shop.counters.Read(counts);
  counts.connections = core_->shop.connections;
  counts.in_flight = core_->shop.answering;
  return counts;
}

uint16_t HttpServer::port() const {
  return core_->port;
}

}  // namespace nudge
