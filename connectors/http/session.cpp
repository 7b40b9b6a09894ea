#include "connectors/http/session.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "connectors/http/request_target.h"

namespace nudge {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using net::ip::tcp;
using std::chrono::milliseconds;

namespace {

constexpr size_t kReadBytes = 4 << 10;
// How long, and for how much, a client that is refused may go on sending before it is cut off: a
// connection that is closed with bytes unread loses the answer on its way.
constexpr milliseconds kLinger{1'000};
constexpr size_t kLingerBytes = 8 << 20;
constexpr uint64_t kFilePieceBytes = 256 << 10;
constexpr size_t kFeedPiecesMost = 64;  // that wait for a client

// So many bytes at an offset; nothing where they are not there.
std::optional<std::string> ReadAt(const Descriptor& file, uint64_t offset, uint64_t bytes) {
  std::string read(bytes, '\0');
  for (size_t done = 0; done < bytes;) {
    const ssize_t got =
        pread(*file, read.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    done += static_cast<size_t>(got);
  }
  return read;
}

}  // namespace

// ---- Reading ------------------------------------------------------------------------------------

// What is read or written from now on has so long; then it ends with an error.
void Session::Within(milliseconds limit) {
  timed_out_ = false;
  timer_.expires_after(limit);
  timer_.async_wait([weak = weak_from_this(), deadline = ++deadline_](error_code aborted) {
    const auto self = weak.lock();
    if (aborted || self == nullptr || deadline != self->deadline_) return;
    self->timed_out_ = true;
    error_code ignored;
    self->wire_.socket().cancel(ignored);
  });
}

void Session::Start() {
  net::dispatch(Executor(), [self = shared_from_this()] { self->Begin(); });
}

void Session::Begin() {
  const bool has_room = shop_.connections <= shop_.options.connections_max;
  route_ = Routes().size();
  if (!wire_.is_tls()) {
    if (has_room) return AwaitRequest();
    return Refuse(
        {503, "too_many_connections", "http.connections_max are open", "try again later", ""});
  }
  if (!has_room) return Close();  // a handshake costs more than a refusal is worth
  Within(shop_.options.header_timeout);
  wire_.AsyncHandshake([self = shared_from_this()](error_code error) {
    if (error) return self->Close();
    self->AwaitRequest();
  });
}

void Session::AwaitRequest() {
  if (buffer_.size() > 0) return ReadHead();  // sent ahead
  Within(shop_.options.idle_timeout);
  wire_.async_read_some(buffer_.prepare(kReadBytes),
                        [self = shared_from_this()](error_code error, size_t bytes) {
                          if (error) return self->Close();
                          self->buffer_.commit(bytes);
                          self->ReadHead();
                        });
}

void Session::ReadHead() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shop_.options.header_bytes_max));
  parser_->body_limit(shop_.options.body_bytes_max);
  headers_.clear();
  route_ = Routes().size();
  keeps_alive_ = false;  // unless the request is read to its end
  head_only_ = false;
  Within(shop_.options.header_timeout);
  http::async_read_header(
      wire_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, size_t) { self->OnHead(error); });
}

void Session::OnHead(error_code error) {
  if (error) return RefuseRead(error, "head");
  version_ = parser_->get().version();
  if (!boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    return ReadBody();
  }
  Within(shop_.options.write_timeout);
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  net::async_write(wire_, net::buffer(kContinue.data(), kContinue.size()),
                   [self = shared_from_this()](error_code failed, size_t) {
                     if (failed) return self->Close();
                     self->ReadBody();
                   });
}

void Session::ReadBody() {
  Within(shop_.options.body_timeout);
  http::async_read(wire_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
    self->OnRequest(error);
  });
}

void Session::OnRequest(error_code error) {
  if (error) return RefuseRead(error, "body");
  Serve();
}

void Session::RefuseRead(error_code error, std::string_view what) {
  const auto& options = shop_.options;
  if (timed_out_) {
    return Refuse({408, "too_slow", "the request's " + std::string(what) + " did not come in time",
                   "send it at once; http." + std::string(what == "head" ? "header" : "body") +
                       "_timeout_ms is the limit",
                   ""});
  }
  if (error == http::error::body_limit) {
    return Refuse({413, "too_large",
                   "the body is over " + std::to_string(options.body_bytes_max) + " bytes",
                   "send less, or raise http.body_bytes_max", ""});
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refuse({431, "too_large",
                   "the head is over " + std::to_string(options.header_bytes_max) + " bytes",
                   "send less, or raise http.header_bytes_max", ""});
  }
  if (error == http::error::partial_message) {
    return Refuse({400, "half_a_request", "the request's " + std::string(what) + " ends too early",
                   "send all bytes that Content-Length says", ""});
  }
  if (error == http::error::end_of_stream ||
      error.category() != make_error_code(http::error::bad_version).category()) {
    return Close();
  }
  Refuse({400, "invalid_http", error.message(), "send HTTP/1.1", ""});
}

void Session::Serve() {
  SetAnswering(true);
  auto& message = parser_->get();
  keeps_alive_ = message.keep_alive();
  HttpRequest request;
  request.method = std::string(message.method_string());
  head_only_ = request.method == "HEAD";
  if (head_only_) request.method = "GET";  // ranges are of GET alone: below
  const auto target = message.target();
  ReadTarget({target.data(), target.size()}, request);
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
    }
    std::string& value = request.headers[std::move(name)];
    if (!value.empty()) value += ", ";
    value.append(field.value().data(), field.value().size());
  }
  if (head_only_) request.headers.erase("range");
  request.body = std::move(message.body());
  const auto unix_seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  HttpServed served =
      shop_.service.Take(request, std::chrono::steady_clock::now(), unix_seconds.count());
  headers_ = std::move(served.headers);
  route_ = served.route;
  if (auto* plan = std::get_if<HttpPlan>(&served.handled)) return Follow(std::move(*plan));
  if (auto* errand = std::get_if<HttpErrand>(&served.handled)) return Run(std::move(*errand));
  if (auto* feed = std::get_if<HttpFeed>(&served.handled)) return SendFeed(std::move(*feed));
  Respond(std::get<HttpResponse>(std::move(served.handled)));
}

// ---- Waiting for outcomes, and for the disk
// ----------------------------------------------------------------------

void Session::Follow(HttpPlan plan) {
  plan_ = std::move(plan);
  endings_.assign(plan_.events.size(), {});
  AwaitAnswer();
  // A door that answers on this thread changes nothing here before all are submitted: what it tells
  // is posted.
  for (size_t i = 0; i < plan_.events.size(); ++i) {
    Following following = FollowingOf(i);
    HttpPlan::Item& event = plan_.events[i];
    shop_.door.Submit(event.tenant, std::move(event.json), std::move(following));
  }
}

void Session::AwaitAnswer() {
  follows_ = true;
  ++deadline_;  // nothing is read or written meanwhile
  timer_.cancel();
  answer_timer_.expires_after(shop_.options.answer_timeout);
  answer_timer_.async_wait([self = shared_from_this(), turn = turn_](error_code aborted) {
    if (!aborted && turn == self->turn_) self->OnAnswerTimeout();
  });
}

void Session::Run(HttpErrand errand) {
  plan_.answer = [](const std::vector<HttpEnding>&) {
    HttpResponse response =
        ToResponse({503, "busy", "the answer was not ready in time",
                    "try again later; http.answer_timeout_ms is the limit", ""});
    response.headers.emplace_back("Retry-After", "1");
    return response;
  };
  AwaitAnswer();
  net::post(shop_.errands, [weak = weak_from_this(), mailbox = mailbox_, turn = turn_,
                            run = std::move(errand.run)] {
    HttpErrandEnd answer;
    try {
      answer = run();
    } catch (const std::exception& error) {
      answer = ToResponse({500, "internal", error.what(), "report it as a defect", ""});
    }
    mailbox->Post(weak, [turn, answer = std::move(answer)](Session& session) mutable {
      session.OnErrand(turn, std::move(answer));
    });
  });
}

void Session::OnErrand(uint64_t turn, HttpErrandEnd answer) {
  if (turn != turn_ || !follows_) return;
  EndTurn();
  if (auto* plan = std::get_if<HttpPlan>(&answer)) return Follow(std::move(*plan));
  if (auto* file = std::get_if<HttpFile>(&answer)) return SendFile(std::move(*file));
  Respond(std::get<HttpResponse>(std::move(answer)));
}

Following Session::FollowingOf(size_t at) {
  const auto to = [weak = weak_from_this(), mailbox = mailbox_](auto call) {
    mailbox->Post(weak, std::move(call));
  };
  HttpPlan::Item event = plan_.events[at];
  event.json.clear();
  const uint64_t turn = turn_;
  Following following;
  following.stored = [=, mailbox = mailbox_, &service = shop_.service](int64_t offset) {
    mailbox->WhileOpen(
        [&] { service.Stored(event, offset); });  // whether or not its client is still there
    to([=](Session& session) { session.OnStored(turn, at); });
  };
  following.token = [=](std::string_view text) {
    to([=, text = std::string(text)](Session& session) { session.OnToken(turn, text); });
  };
  following.outcome = [=](const std::string& line) {
    to([=](Session& session) { session.OnOutcome(turn, at, line); });
  };
  following.failed = [=](const Error& error) {
    to([=](Session& session) { session.OnFailed(turn, at, error); });
  };
  following.unknown = [=](const Error& error) {
    to([=](Session& session) { session.OnUnknown(turn, at, error); });
  };
  return following;
}

void Session::OnStored(uint64_t turn, size_t at) {
  if (turn != turn_ || !follows_) return;
  endings_[at].stored = true;
  if (plan_.stream) return BeginStream();
  Settle();
}

void Session::OnToken(uint64_t turn, const std::string& text) {
  if (turn != turn_ || !follows_ || !plan_.stream || text.empty()) return;
  BeginStream();
  Send(plan_.stream->Token(text), false);
}

void Session::OnOutcome(uint64_t turn, size_t at, std::string line) {
  if (turn != turn_ || !follows_) return;
  endings_[at].stored = true;
  endings_[at].outcome = std::move(line);
  if (plan_.stream) BeginStream();
  Settle();
}

void Session::OnFailed(uint64_t turn, size_t at, Error error) {
  if (turn != turn_ || !follows_) return;
  endings_[at].failure = std::move(error);
  Settle();
}

void Session::OnUnknown(uint64_t turn, size_t at, Error error) {
  if (turn != turn_ || !follows_) return;
  endings_[at].doubt = std::move(error);
  Settle();
}

bool Session::IsSettled() const {
  return std::all_of(endings_.begin(), endings_.end(), [this](const HttpEnding& ending) {
    return ending.failure || ending.doubt || ending.outcome || (!plan_.waits && ending.stored);
  });
}

void Session::Settle() {
  if (!IsSettled()) return;
  if (!streams_) {
    HttpResponse answer = plan_.answer(endings_);
    EndTurn();
    return Respond(std::move(answer));
  }
  std::string last = plan_.stream->End(endings_.front());
  EndTurn();
  Send(std::move(last), true);
}

void Session::OnAnswerTimeout() {
  if (!follows_) return;
  if (streams_) {
    std::string last = plan_.stream->End(endings_.front());
    EndTurn();
    return Send(std::move(last), true);
  }
  HttpResponse answer = plan_.answer(endings_);
  EndTurn();
  Respond(std::move(answer));
}

void Session::EndTurn() {
  follows_ = false;
  ++turn_;
  answer_timer_.cancel();
  plan_ = {};
  endings_.clear();
}

// ---- Writing ------------------------------------------------------------------------------------

// Ends the connection: the rest of the request is not read.
void Session::Refuse(const HttpRefusal& refusal) {
  keeps_alive_ = false;
  Respond(ToResponse(refusal));
}

template <class Body>
void Session::WriteHead(const HttpResponse& answer, http::response<Body>& response) {
  shop_.counters.Count(route_, answer.status);
  response.version(version_);
  response.result(answer.status);
  response.set(http::field::server, "nudge");
  if (!answer.type.empty()) response.set(http::field::content_type, answer.type);
  response.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  for (const auto& [name, value] : headers_) response.set(name, value);
  response.keep_alive(keeps_alive_);
}

void Session::Respond(HttpResponse answer) {
  if (head_only_) return RespondHead(answer, answer.body.size());
  response_ = {};
  WriteHead(answer, response_);
  response_.body() = std::move(answer.body);
  response_.prepare_payload();
  WriteResponse();
}

void Session::RespondHead(const HttpResponse& answer, uint64_t body_bytes) {
  response_ = {};
  WriteHead(answer, response_);
  response_.content_length(body_bytes);
  WriteResponse();
}

void Session::WriteResponse() {
  Within(shop_.options.write_timeout);
  http::async_write(wire_, response_, [self = shared_from_this()](error_code error, size_t) {
    if (error) return self->Close();
    self->Finish();
  });
}

void Session::BeginStream() {
  if (!streams_) BeginBody(plan_.stream->Begin(), std::nullopt);
}

// A body in pieces, of so many bytes, or without an end that is known yet.
void Session::BeginBody(const HttpResponse& head, std::optional<uint64_t> bytes) {
  streams_ = true;
  is_last_queued_ = false;
  is_chunked_ = !bytes && version_ >= 11;
  if (!bytes && !is_chunked_) keeps_alive_ = false;  // the connection's end is the body's
  stream_head_ = {};
  WriteHead(head, stream_head_);
  if (bytes) stream_head_.content_length(*bytes);
  if (is_chunked_) stream_head_.chunked(true);
  serializer_.emplace(stream_head_);
  is_writing_ = true;
  if (!head.body.empty()) Send(head.body, false);
  Within(shop_.options.write_timeout);
  http::async_write_header(wire_, *serializer_,
                           [self = shared_from_this()](error_code error, size_t) {
                             self->is_writing_ = false;
                             if (error) return self->Close();
                             self->Pump();
                           });
}

void Session::Send(std::string piece, bool is_last) {
  if (is_chunked_) {
    char size[24];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    piece = size + piece + "\r\n";
    if (is_last) piece += "0\r\n\r\n";
  }
  pieces_.push_back(std::move(piece));
  is_last_queued_ = is_last;
  Pump();
}

void Session::Pump() {
  if (is_writing_) return;
  if (pieces_.empty()) {
    ++deadline_;  // nothing to write, nothing to be late with
    timer_.cancel();
    if (file_) return ReadPiece();
    if (!is_last_queued_) return;
    streams_ = false;
    return Finish();
  }
  is_writing_ = true;
  Within(shop_.options.write_timeout);
  net::async_write(wire_, net::buffer(pieces_.front()),
                   [self = shared_from_this()](error_code error, size_t) {
                     self->is_writing_ = false;
                     if (error) return self->Close();
                     self->pieces_.pop_front();
                     self->Pump();
                   });
}

// ---- Files and feeds ----------------------------------------------------------------------------

void Session::SendFile(HttpFile file) {
  const uint64_t bytes = file.end - file.begin;
  if (head_only_ || bytes == 0) return RespondHead(file.head, bytes);
  file_ = std::move(file);
  BeginBody(file_->head, bytes);
}

void Session::ReadPiece() {
  const uint64_t bytes = std::min<uint64_t>(kFilePieceBytes, file_->end - file_->begin);
  answer_timer_.expires_after(shop_.options.answer_timeout);
  answer_timer_.async_wait([self = shared_from_this(), turn = turn_](error_code aborted) {
    if (!aborted && turn == self->turn_ && self->file_) self->Close();
  });
  net::post(shop_.errands, [weak = weak_from_this(), mailbox = mailbox_, turn = turn_,
                            file = file_->file, begin = file_->begin, bytes] {
    std::optional<std::string> piece = ReadAt(*file, begin, bytes);
    mailbox->Post(weak, [turn, piece = std::move(piece)](Session& session) mutable {
      session.OnRead(turn, std::move(piece));
    });
  });
}

void Session::OnRead(uint64_t turn, std::optional<std::string> piece) {
  if (turn != turn_ || !file_) return;
  answer_timer_.cancel();
  if (!piece) return Close();  // the head has promised more: a body that ends early says so
  file_->begin += piece->size();
  const bool is_last = file_->begin == file_->end;
  if (is_last) file_.reset();
  Send(*std::move(piece), is_last);
}

// Nothing else is answered on this connection, so that nothing but the feed is kept for it.
void Session::SendFeed(HttpFeed feed) {
  keeps_alive_ = false;
  if (head_only_) return RespondHead(feed.head, 0);
  SetAnswering(false);  // the server's end waits for no feed
  parser_.reset();
  buffer_ = {};
  beat_ = std::move(feed.beat);
  BeginBody(feed.head, std::nullopt);
  feed_ = feed.open([weak = weak_from_this(), mailbox = mailbox_, turn = turn_](std::string piece) {
    mailbox->Post(weak, [turn, piece = std::move(piece)](Session& session) mutable {
      session.OnNews(turn, std::move(piece));
    });
  });
  Beat();
  AwaitEnd();
}

void Session::OnNews(uint64_t turn, std::string piece) {
  if (turn != turn_ || !feed_) return;
  if (pieces_.size() >= kFeedPiecesMost) return Close();  // it takes none
  Send(std::move(piece), false);
}

void Session::Beat() {
  answer_timer_.expires_after(shop_.options.beat);
  answer_timer_.async_wait([weak = weak_from_this(), turn = turn_](error_code aborted) {
    const auto self = weak.lock();
    if (aborted || self == nullptr || turn != self->turn_) return;
    self->OnNews(turn, self->beat_);
    if (turn == self->turn_) self->Beat();
  });
}

// A client has nothing more to say on a feed; that it goes away is seen here.
void Session::AwaitEnd() {
  wire_.socket().async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code error) {
    if (!error) self->Close();
  });
}

void Session::Finish() {
  SetAnswering(false);
  if (keeps_alive_ && !shop_.is_ending) return AwaitRequest();
  Within(kLinger);
  if (wire_.is_tls()) {
    return wire_.AsyncShutdown([self = shared_from_this()](error_code) { self->Close(); });
  }
  error_code ignored;
  wire_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  Linger(kLingerBytes);
}

void Session::Linger(size_t bytes) {
  buffer_.clear();
  wire_.async_read_some(buffer_.prepare(kReadBytes),
                        [self = shared_from_this(), bytes](error_code error, size_t got) {
                          if (error || got >= bytes) return self->Close();
                          self->Linger(bytes - got);
                        });
}

// The last that holds it lets it go: what the door still tells finds nobody.
void Session::Close() {
  SetAnswering(false);
  EndTurn();
  feed_.reset();
  file_.reset();
  ++deadline_;
  timer_.cancel();
  error_code ignored;
  wire_.socket().close(ignored);
}

}  // namespace nudge
