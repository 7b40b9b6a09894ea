#include "stages/model/remote/http_post.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "stages/guarded.h"

namespace nudge {
namespace {

namespace net = boost::asio;
namespace ssl = boost::asio::ssl;
namespace http = boost::beast::http;
using boost::system::error_code;
using net::ip::tcp;
using Clock = std::chrono::steady_clock;
using End = PostReply::End;

constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr uint32_t kHeadBytes = 64 << 10;

// ---- Names --------------------------------------------------------------------------------------

using Endpoints = std::vector<tcp::endpoint>;

// What a look-up leaves for who waits for it, if anybody still does.
struct Lookup {
  Mutex mutex;
  CondVar ended;
  bool is_done GUARDED_BY(mutex) = false;
  error_code error GUARDED_BY(mutex);
  Endpoints found GUARDED_BY(mutex);
};

// The system's resolver cannot be interrupted, so it has a thread that may be left alone.
std::shared_ptr<Lookup> BeginLookup(const PostTarget& target) {
  auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host = target.host, port = target.port] {
    net::io_context context;
    tcp::resolver resolver(context);
    error_code error;
    Endpoints found;
    for (const auto& entry : resolver.resolve(host, port, error)) {
      found.push_back(entry.endpoint());
    }
    const MutexLock lock(lookup->mutex);
    lookup->error = error;
    lookup->found = std::move(found);
    lookup->is_done = true;
    lookup->ended.NotifyAll();
  }).detach();
  return lookup;
}

// ---- A call -------------------------------------------------------------------------------------

// On error every step leaves in `reply` why, and returns false.
class PostCall {
 public:
  PostCall(const PostTarget& target, const PostLimits& limits, const PostWatch& watch)
      : target_(target),
        limits_(limits),
        watch_(watch),
        begun_(Clock::now()),
        end_(begun_ + limits.whole) {}

  PostReply Run(const http::request<http::string_body>& request, ssl::context* tls) {
    const auto connect_end = std::min(end_, begun_ + limits_.connect);
    if (!Connect(connect_end)) return std::move(reply_);
    if (tls == nullptr) {
      if (Send(socket_, request)) Receive(socket_);
      return std::move(reply_);
    }
    ssl::stream<tcp::socket&> stream(socket_, *tls);
    if (Shake(stream, connect_end) && Send(stream, request)) Receive(stream);
    return std::move(reply_);
  }

 private:
  bool Fail(End end, std::string what) {
    reply_.end = end;
    reply_.what = std::move(what);
    return false;
  }
  bool cancelled() const { return watch_.cancelled && watch_.cancelled(); }

  bool FailLate(Clock::time_point end) {
    if (end < end_) {
      return Fail(End::kUnreachable,
                  "no connection within " + std::to_string(limits_.connect.count()) + " ms");
    }
    return Fail(End::kLate,
                "no whole reply within " + std::to_string(limits_.whole.count()) + " ms");
  }

  // Runs until what `start` begins has called its handler, which it does soon once the socket is
  // closed. Nothing: it was given up, and `reply_` says why.
  template <class Start>
  std::optional<error_code> Await(Clock::time_point end, Start start) {
    if (Clock::now() >= end) {
      FailLate(end);
      return std::nullopt;
    }
    std::optional<error_code> result;
    start([&result](error_code error, auto&&...) { result = error; });
    bool is_given_up = false;
    context_.restart();
    while (!result) {
      const auto left = end - Clock::now();
      const bool is_late = left <= Clock::duration::zero();
      if (!is_given_up && (is_late || cancelled())) {
        is_given_up = true;
        is_late ? FailLate(end) : Fail(End::kStopped, "it was stopped");
        error_code ignored;
        socket_.close(ignored);
      }
      if (context_.stopped()) context_.restart();
      context_.run_one_for(is_given_up ? kPoll : std::min<Clock::duration>(kPoll, left));
    }
    return is_given_up ? std::nullopt : result;
  }

  std::optional<Endpoints> Resolve(Clock::time_point end) {
    error_code error;
    const auto address = net::ip::make_address(target_.host, error);
    if (!error) {
      return Endpoints{{address, static_cast<uint16_t>(std::stoul(target_.port))}};
    }
    const auto lookup = BeginLookup(target_);
    const MutexLock lock(lookup->mutex);
    while (!lookup->ended.WaitFor(lookup->mutex, kPoll,
                                  [&]() REQUIRES(lookup->mutex) { return lookup->is_done; })) {
      if (cancelled()) {
        Fail(End::kStopped, "it was stopped");
        return std::nullopt;
      }
      if (Clock::now() >= end) {
        FailLate(end);
        return std::nullopt;
      }
    }
    if (lookup->error) {
      Fail(End::kUnreachable, "its name is not known: " + lookup->error.message());
      return std::nullopt;
    }
    return lookup->found;
  }

  bool Connect(Clock::time_point end) {
    const std::optional<Endpoints> endpoints = Resolve(end);
    if (!endpoints) return false;
    const auto error = Await(
        end, [&](auto handler) { net::async_connect(socket_, *endpoints, std::move(handler)); });
    if (!error) return false;
    if (*error) return Fail(End::kUnreachable, "no connection: " + error->message());
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    return true;
  }

  bool Shake(ssl::stream<tcp::socket&>& stream, Clock::time_point end) {
    SSL_set_tlsext_host_name(stream.native_handle(), target_.host.c_str());
    stream.set_verify_callback(ssl::host_name_verification(target_.host));
    const auto error = Await(end, [&](auto handler) {
      stream.async_handshake(ssl::stream_base::client, std::move(handler));
    });
    if (!error) return false;
    if (*error) return Fail(End::kUnreachable, "no TLS: " + error->message());
    return true;
  }

  template <class Stream>
  bool Send(Stream& stream, const http::request<http::string_body>& request) {
    const auto error =
        Await(end_, [&](auto handler) { http::async_write(stream, request, std::move(handler)); });
    if (!error) return false;
    if (*error) return Fail(End::kCutOff, "it took no request: " + error->message());
    return true;
  }

  template <class Stream>
  bool Receive(Stream& stream) {
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.header_limit(kHeadBytes);
    parser.body_limit(limits_.response_bytes_max);
    size_t told = 0;
    bool is_enough = false;
    std::optional<error_code> error = error_code();
    while (!parser.is_done() && !is_enough && error && !*error) {
      error = Await(end_, [&](auto handler) {
        http::async_read_some(stream, buffer, parser, std::move(handler));
      });
      if (!parser.is_header_done()) continue;
      reply_.status = static_cast<int>(parser.get().result_int());
      const std::string& body = parser.get().body();
      if (watch_.on_body && reply_.status == 200 && body.size() > told) {
        is_enough = !watch_.on_body(std::string_view(body).substr(told));
        told = body.size();
      }
    }
    reply_.body = std::move(parser.get().body());
    if (!error) return false;
    if (is_enough || parser.is_done()) return true;
    if (*error == http::error::body_limit || *error == http::error::header_limit) {
      return Fail(End::kTooLarge,
                  "its reply is over " + std::to_string(limits_.response_bytes_max) + " bytes");
    }
    return Fail(End::kCutOff, "its reply breaks off: " + error->message());
  }

  const PostTarget& target_;
  const PostLimits& limits_;
  const PostWatch& watch_;
  const Clock::time_point begun_;
  const Clock::time_point end_;
  net::io_context context_{1};
  tcp::socket socket_{context_};
  PostReply reply_;
};

void SetHead(http::request<http::string_body>& request, const PostTarget& target,
             const std::string& key) {
  request.set(http::field::host, target.authority);
  request.set(http::field::user_agent, "nudge");
  request.set(http::field::connection, "close");
  if (!key.empty()) request.set(http::field::authorization, "Bearer " + key);
}

}  // namespace

struct PostClient::Tls {
  ssl::context context{ssl::context::tls_client};
};

PostClient::PostClient(PostTarget target, std::string key, PostLimits limits)
    : target_(std::move(target)),
      key_(std::move(key)),
      limits_(limits),
      tls_(target_.has_tls ? std::make_unique<Tls>() : nullptr) {
  if (!tls_) return;
  error_code error;
  SSL_CTX_set_min_proto_version(tls_->context.native_handle(), TLS1_2_VERSION);
  tls_->context.set_default_verify_paths(error);
  if (!error) tls_->context.set_verify_mode(ssl::verify_peer, error);
  if (error) throw StartError("TLS: what this system trusts cannot be read: " + error.message());
}

PostClient::~PostClient() = default;

PostReply PostClient::Post(std::string_view path, std::string_view json,
                           const PostWatch& watch) const {
  http::request<http::string_body> request(http::verb::post, target_.path + std::string(path), 11);
  request.set(http::field::content_type, "application/json");
  request.body() = json;
  request.prepare_payload();
  SetHead(request, target_, key_);
  return PostCall(target_, limits_, watch).Run(request, tls_ ? &tls_->context : nullptr);
}

PostReply PostClient::Get(std::string_view path, const PostWatch& watch) const {
  http::request<http::string_body> request(http::verb::get, target_.path + std::string(path), 11);
  SetHead(request, target_, key_);
  return PostCall(target_, limits_, watch).Run(request, tls_ ? &tls_->context : nullptr);
}

}  // namespace nudge
