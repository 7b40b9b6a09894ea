// One connection of the HTTP server: bytes -> [Session] -> HttpRequest, answers -> bytes.
//
// Request by request, each answered before the next is read. All of a session runs on its strand;
// the door's threads reach it through the Mailbox. Limits and patience are http_options.h's.
//
// For http_server.cpp alone: it includes Boost.Asio, which stays in this folder.
#pragma once

#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "connectors/http/http_counters.h"
#include "connectors/http/http_options.h"
#include "connectors/http/http_service.h"
#include "connectors/http/wire.h"
#include "stages/guarded.h"

namespace nudge {

class Session;

// What all sessions share; it outlives them.
struct Shop {
  HttpOptions options;
  HttpService& service;
  Door& door;
  boost::asio::thread_pool& errands;  // waits for the disk
  HttpCounters counters{};
  std::atomic<uint32_t> connections{0};
  std::atomic<uint32_t> answering{0};  // requests that are read and not yet answered to their end
  std::atomic<bool> is_ending{false};  // no further request is read
};

// Where the door's threads hand over what they tell. It outlives the server, and then takes
// nothing.
class Mailbox {
 public:
  template <class Call>
  void Post(const std::weak_ptr<Session>& to, Call call);

  template <class Call>
  void WhileOpen(Call call) {
    const MutexLock lock(mutex_);
    if (is_open_) call();
  }

  void Close() {
    const MutexLock lock(mutex_);
    is_open_ = false;
  }

 private:
  Mutex mutex_;
  bool is_open_ GUARDED_BY(mutex_) = true;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  // Without a context: no TLS.
  Session(Wire::Socket socket, std::shared_ptr<boost::asio::ssl::context> context, Shop& shop,
          std::shared_ptr<Mailbox> mailbox)
      : wire_(std::move(socket), std::move(context)),
        timer_(wire_.get_executor()),
        answer_timer_(wire_.get_executor()),
        shop_(shop),
        mailbox_(std::move(mailbox)) {
    ++shop_.connections;
  }
  ~Session() {
    SetAnswering(false);
    --shop_.connections;
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Wire::executor_type Executor() { return wire_.get_executor(); }

  void Start();

  // What the door tells, of the event `at` of the request `turn`.
  void OnStored(uint64_t turn, size_t at);
  void OnToken(uint64_t turn, const std::string& text);
  void OnOutcome(uint64_t turn, size_t at, std::string line);
  void OnFailed(uint64_t turn, size_t at, Error error);
  void OnUnknown(uint64_t turn, size_t at, Error error);
  // What came of the errand of the request `turn`; the next piece of its file, nothing where it
  // cannot be read; a piece of its feed.
  void OnErrand(uint64_t turn, HttpErrandEnd answer);
  void OnRead(uint64_t turn, std::optional<std::string> piece);
  void OnNews(uint64_t turn, std::string piece);

 private:
  // ---- Reading ----
  void Begin();
  void AwaitRequest();
  void ReadHead();
  void OnHead(boost::system::error_code error);
  void ReadBody();
  void OnRequest(boost::system::error_code error);
  void RefuseRead(boost::system::error_code error, std::string_view what);
  void Serve();

  // ---- Waiting for outcomes, and for the disk ----
  void Follow(HttpPlan plan);
  void Run(HttpErrand errand);
  void AwaitAnswer();
  Following FollowingOf(size_t at);
  bool IsSettled() const;
  void Settle();
  void OnAnswerTimeout();
  void EndTurn();

  // ---- Writing ----
  void Refuse(const HttpRefusal& refusal);
  void Respond(HttpResponse answer);
  void WriteResponse();
  void RespondHead(const HttpResponse& answer, uint64_t body_bytes);
  template <class Body>
  void WriteHead(const HttpResponse& answer, boost::beast::http::response<Body>& response);
  void BeginStream();
  void BeginBody(const HttpResponse& head, std::optional<uint64_t> bytes);
  void SendFile(HttpFile file);
  void ReadPiece();
  void SendFeed(HttpFeed feed);
  void Beat();
  void AwaitEnd();
  void Send(std::string piece, bool is_last);
  void Pump();
  void Finish();
  void Linger(size_t bytes);
  void Close();

  void Within(std::chrono::milliseconds limit);
  void SetAnswering(bool answers) {
    if (answers != std::exchange(is_answering_, answers)) shop_.answering += answers ? 1 : -1u;
  }

  Wire wire_;
  boost::asio::steady_timer timer_;         // of what is read or written
  boost::asio::steady_timer answer_timer_;  // of the outcomes
  Shop& shop_;
  const std::shared_ptr<Mailbox> mailbox_;
  uint64_t deadline_ = 0;  // counts, so that a timer that fires late does nothing
  bool timed_out_ = false;
  bool is_answering_ = false;

  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  bool keeps_alive_ = false;
  bool head_only_ = false;
  size_t route_ = 0;  // of the request: HttpServed
  unsigned version_ = 11;

  uint64_t turn_ = 0;  // counts requests: what the door tells of an earlier one comes too late
  bool follows_ = false;
  HttpPlan plan_;
  std::vector<HttpEnding> endings_;
  std::vector<std::pair<std::string, std::string>> headers_;  // of this request's answer

  boost::beast::http::response<boost::beast::http::string_body> response_;
  boost::beast::http::response<boost::beast::http::empty_body> stream_head_;
  std::optional<boost::beast::http::response_serializer<boost::beast::http::empty_body>>
      serializer_;
  bool streams_ = false;
  bool is_chunked_ = false;
  bool is_writing_ = false;
  bool is_last_queued_ = false;
  std::list<std::string> pieces_;
  std::optional<HttpFile> file_;  // whose bytes from its `begin` on are still to be read
  std::string beat_;              // of the feed
  std::shared_ptr<void> feed_;    // while it lives, pieces come
};

template <class Call>
void Mailbox::Post(const std::weak_ptr<Session>& to, Call call) {
  const MutexLock lock(mutex_);
  if (!is_open_) return;
  std::shared_ptr<Session> session = to.lock();
  if (session == nullptr) return;
  const auto executor = session->Executor();
  boost::asio::post(executor, [session = std::move(session), call = std::move(call)]() mutable {
    call(*session);
  });
}

}  // namespace nudge
