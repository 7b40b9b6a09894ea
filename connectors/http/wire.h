// A connection's bytes, as they are or through TLS: socket, context -> [Wire] -> a stream of
// Asio's.
//
// For session.h alone: it includes Boost.Asio, which stays in this folder. One strand.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <memory>
#include <utility>

namespace nudge {

class Wire {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using executor_type = Socket::executor_type;  // this and what is in its style: as Asio wants it

  // Without a context: no TLS.
  Wire(Socket socket, std::shared_ptr<boost::asio::ssl::context> context)
      : context_(std::move(context)), socket_(std::move(socket)) {
    if (context_) tls_ = std::make_unique<Tls>(socket_, *context_);
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  bool is_tls() const { return tls_ != nullptr; }
  Socket& socket() { return socket_; }
  executor_type get_executor() { return socket_.get_executor(); }

  // Requires TLS.
  template <class Handler>
  void AsyncHandshake(Handler handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::move(handler));
  }
  template <class Handler>
  void AsyncShutdown(Handler handler) {
    tls_->async_shutdown(std::move(handler));
  }

  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Handler>(handler));
    socket_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Handler>(handler));
    socket_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  using Tls = boost::asio::ssl::stream<Socket&>;

  std::shared_ptr<boost::asio::ssl::context> context_;
  Socket socket_;
  std::unique_ptr<Tls> tls_;  // over socket_
};

}  // namespace nudge
