// Requests and answers as plain values, so that handlers know no sockets.
//
//   HttpRequest -> [handler] -> HttpResponse, or an HttpPlan or HttpErrand whose end is one, or an
//   HttpFeed
//
// Values; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "stages/files.h"
#include "stages/result.h"

namespace nudge {

struct HttpRequest {
  std::string method = "GET";
  std::string path = "/";                      // as sent, without the query
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  // Empty where there is none.
  std::string_view Header(std::string_view name) const;
  std::string_view Query(std::string_view name) const;
  // Content-Type without parameters, in lower case.
  std::string MediaType() const;
  // The path's parts as sent, "/v1/adapters/a%2Fb" -> "v1", "adapters", "a%2Fb".
  std::vector<std::string_view> Parts() const;
};

struct HttpResponse {
  unsigned status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// Why a request is refused. The body has the shape that OpenAI's clients read, and the remedy.
struct HttpRefusal {
  unsigned status = 400;
  std::string code;
  std::string message;
  std::string remedy;
  std::string param;  // which field, for OpenAI's clients; may be empty
};
HttpResponse ToResponse(const HttpRefusal& refusal);
HttpRefusal ToRefusal(const Error& error, unsigned status = 400);
std::string ErrorJson(const HttpRefusal& refusal);

// What became of an event so far.
struct HttpEnding {
  bool stored = false;                 // it will have an outcome
  std::optional<std::string> outcome;  // the committed line
  std::optional<Error> failure;        // not stored
  std::optional<Error> doubt;          // perhaps stored
};

// Makes a body piece by piece while an event is answered.
class Streamed {
 public:
  virtual ~Streamed() = default;
  virtual HttpResponse Begin() = 0;                       // status, type and headers
  virtual std::string Token(std::string_view text) = 0;   // provisional
  virtual std::string End(const HttpEnding& ending) = 0;  // without an outcome: it took too long
};

// Events for the log, and how their endings make an answer.
struct HttpPlan {
  struct Item {
    std::string tenant;
    std::string id;
    std::string user;  // whose it is; may be empty
    std::string json;
    std::string key_id;  // of the key that it came with
  };
  std::vector<Item> events;  // in this order
  bool waits = true;         // for outcomes; else until all are stored
  std::function<HttpResponse(const std::vector<HttpEnding>& endings)> answer;
  std::shared_ptr<Streamed> stream;  // of one event: once it is stored, instead of `answer`
};

// Bytes of a file as a body, read and sent piece by piece.
struct HttpFile {
  HttpResponse head;  // has no body
  std::shared_ptr<const Descriptor> file;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// What has to wait for the disk, or takes long: `run` is called once, on a thread that may.
using HttpErrandEnd = std::variant<HttpResponse, HttpFile, HttpPlan>;
struct HttpErrand {
  std::function<HttpErrandEnd()> run;
};

// A body without an end. `open` is called once; from then on `send` may be called by any thread,
// each time with a piece of the body, until what `open` returned is gone.
struct HttpFeed {
  HttpResponse head;  // its body is the first piece
  std::string beat;   // a piece that says nothing, for when there is nothing to say
  std::function<std::shared_ptr<void>(std::function<void(std::string piece)> send)> open;
};

using Handled = std::variant<HttpResponse, HttpPlan, HttpErrand, HttpFeed>;

}  // namespace nudge
