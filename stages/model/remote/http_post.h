// One request to a server over HTTP, on a connection of its own: target, body -> [PostClient] ->
// reply.
//
// Whatever the server does, a call ends by the limits that it is given: one deadline stands over
// looking up the name, connecting, TLS, sending and all reads, so that no slow drip outlasts it,
// and no more is kept of a reply than was allowed. A certificate is checked against the name and
// what the system trusts (SSL_CERT_FILE and SSL_CERT_DIR in the environment say otherwise).
//
// Any thread; a call holds its thread until it ends, and asks some fifty times a second whether it
// is still wanted. A name that is not looked up in time leaves a thread behind, until the system's
// resolver gives up.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "stages/result.h"

namespace nudge {

// A server's address, as a URL says it.
struct PostTarget {
  bool has_tls = false;
  std::string host;       // without the brackets of an IPv6 address
  std::string port;       // digits
  std::string authority;  // host and port for the request, as the URL has them
  std::string path;       // begins with a slash or is empty, ends with none
};

// `http://HOST[:PORT][/PATH]` or with https. kInvalidEvent: the message says what is wrong, never
// what a user name or password in it is.
Result<PostTarget> ReadTarget(std::string_view url);

struct PostLimits {
  std::chrono::milliseconds connect{5'000};  // name, connection and TLS together
  std::chrono::milliseconds whole{120'000};  // from the beginning to the last byte
  size_t response_bytes_max = 8 << 20;       // of a reply's body
};

struct PostReply {
  enum class End {
    kWhole,
    kUnreachable,  // no connection, or no TLS
    kLate,         // the deadline came
    kCutOff,       // the connection ended, or what came is no HTTP
    kTooLarge,     // head or body
    kStopped,      // nobody wants it any more
  };
  End end = End::kWhole;
  std::string what;  // of an end that is not kWhole: in words
  int status = 0;    // 0: no head came
  std::string body;  // as far as it came
};

// Who waits for a reply; all of it may be empty. Called on the thread of the call.
struct PostWatch {
  std::function<bool()> cancelled;
  // Gets the pieces of a body under status 200 as they come. False: that is enough, the reply is
  // whole.
  std::function<bool(std::string_view added)> on_body;
};

class PostClient {
 public:
  // `key` goes along as a bearer token; empty: none. Throws StartError: TLS cannot be had.
  PostClient(PostTarget target, std::string key, PostLimits limits);
  ~PostClient();

  // `path` is put behind the target's.
  PostReply Post(std::string_view path, std::string_view json, const PostWatch& watch) const;
  PostReply Get(std::string_view path, const PostWatch& watch) const;

 private:
  struct Tls;

  const PostTarget target_;
  const std::string key_;
  const PostLimits limits_;
  const std::unique_ptr<Tls> tls_;
};

}  // namespace nudge
