#include "stages/model/remote_backend_options.h"

#include "stages/model/remote/http_post.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(RemoteBackendOptions& options) {
  using enum Effect;
  return {
      {"model.openai.url", Text{&options.url, 0, 2048}, "bytes", kOperational,
       "below which /chat/completions is, as https://HOST/v1; needed by the openai backend"},
      {"model.openai.model", Text{&options.model, 0, 256}, "bytes", kSemantic,
       "as that server calls it; needed by the openai backend"},
      {"model.openai.key_file", Path{&options.key_file, Path::Base::kConfigFolder}, "",
       kOperational, "with the server's API key as its one line; read at the start; empty: none"},
      {"model.openai.answer_timeout_ms", Number{&options.answer_timeout, 10, 3'600'000}, "",
       kOperational, "for a whole call, from looking up the name to the last byte"},
      {"model.openai.connect_timeout_ms", Number{&options.connect_timeout, 10, 600'000}, "",
       kOperational, "of those, until there is a connection, with TLS where the URL is https"},
      {"model.openai.retries_max", Number{&options.retries_max, 0, 100}, "", kOperational,
       "of a call that failed for a reason that may pass, behind pauses of 250 ms to 8 s; then "
       "the run stops, exit code 4, and no question is lost"},
      {"model.openai.response_bytes_max",
       Number{&options.response_bytes_max, 1 << 10, uint64_t{1} << 30}, "", kSemantic,
       "of a reply's body; a larger one is its question's dead letter, as is a text over an "
       "eighth of limits.outcome_bytes"},
  };
}

std::vector<std::string> WrongOptions(const RemoteBackendOptions& options) {
  std::vector<std::string> problems;
  if (options.url.empty()) {
    problems.emplace_back(
        "model.openai.url: missing: where the server is that answers, as http://127.0.0.1:8000/v1");
  } else if (const Result<PostTarget> target = ReadTarget(options.url); !target.ok()) {
    problems.push_back("model.openai.url: " + target.error().message + ": " +
                       target.error().remedy);
  }
  if (options.model.empty()) {
    problems.emplace_back(
        "model.openai.model: missing: what the server that answers calls its model (GET "
        "URL/models lists them)");
  }
  return problems;
}

}  // namespace nudge
