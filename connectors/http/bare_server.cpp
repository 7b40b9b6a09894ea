#include "connectors/http/bare_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <thread>
#include <utility>

#include "stages/result.h"

namespace nudge {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using net::ip::tcp;

namespace {

class BareSession : public std::enable_shared_from_this<BareSession> {
 public:
  explicit BareSession(tcp::socket socket) : socket_(std::move(socket)) {}

  void Read() {
    request_ = {};
    http::async_read(socket_, buffer_, request_,
                     [self = shared_from_this()](error_code error, size_t) {
                       if (!error) self->Answer();
                     });
  }

 private:
  void Answer() {
    answer_ = {http::status::ok, 11};
    answer_.set(http::field::content_type, "application/json");
    answer_.body() = "{}";
    answer_.prepare_payload();
    http::async_write(socket_, answer_, [self = shared_from_this()](error_code error, size_t) {
      if (!error) self->Read();
    });
  }

  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  http::response<http::string_body> answer_;
};

}  // namespace

struct BareServer::Loop {
  Loop() {
    error_code error;
    const tcp::endpoint endpoint(net::ip::address_v4::loopback(), 0);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(net::socket_base::max_listen_connections, error);
    if (error) throw StartError("cannot listen on loopback: " + error.message());
    Accept();
    thread = std::thread([this] { context.run(); });
  }
  ~Loop() {
    context.stop();
    thread.join();
  }

  void Accept() {
    acceptor.async_accept([this](error_code error, tcp::socket socket) {
      if (error) return;
      socket.set_option(tcp::no_delay(true), error);
      std::make_shared<BareSession>(std::move(socket))->Read();
      Accept();
    });
  }

  net::io_context context{1};
  tcp::acceptor acceptor{context};
  std::thread thread;
};

BareServer::BareServer() : loop_(std::make_unique<Loop>()) {}

BareServer::~BareServer() = default;

uint16_t BareServer::port() const {
  return loop_->acceptor.local_endpoint().port();
}

}  // namespace nudge
