#include "pipeline/serve/follow_options.h"

#include "stages/model/remote/http_post.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(FollowOptions& options) {
  using enum Effect;
  using enum Path::Base;
  return {
      {"follow.server_url", Text{&options.server_url, 0, 2048}, "bytes", kOperational,
       "of the vLLM server that gets the adapters, below which /load_lora_adapter is, as "
       "http://HOST:8000/v1; needed by `nudge follow`"},
      {"follow.key_file", Path{&options.key_file, kConfigFolder}, "", kOperational,
       "with that server's API key as its one line; read at the start; empty: none"},
      {"follow.lora_folder", Text{&options.lora_folder, 0, 4096}, "bytes", kOperational,
       "where that server sees output.folder's snapshots/; empty: at the same path"},
      {"follow.state_folder", Path{&options.state_folder, kWorkingFolder}, "", kOperational,
       "what was offered, and how far the outcomes are read; empty: follow/ below output.folder"},
      {"follow.versions_per_tenant_max", Number{&options.versions_per_tenant_max, 1, 1'000},
       "versions", kOperational, "the newest, offered; older ones are taken away"},
      {"follow.adapters_max", Number{&options.adapters_max, 1, 1'000'000}, "", kOperational,
       "the newest of all tenants, offered; older ones are taken away"},
      {"follow.request_timeout_ms", Number{&options.request_timeout, 10, 3'600'000}, "",
       kOperational, "for a whole call, from looking up the name to the last byte"},
      {"follow.connect_timeout_ms", Number{&options.connect_timeout, 10, 600'000}, "", kOperational,
       "of those, until there is a connection, with TLS where the URL is https"},
      {"follow.retries_max", Number{&options.retries_max, 0, 100}, "", kOperational,
       "of a call that failed for a reason that may pass, behind pauses of 250 ms to 8 s; then "
       "`nudge follow` ends, exit code 4"},
      {"follow.look_ms", Number{&options.look, 100, 3'600'000}, "", kOperational,
       "until the server is asked again what it has: behind its restart all is offered anew"},
  };
}

std::vector<std::string> WrongOptions(const FollowOptions& options) {
  if (options.server_url.empty()) return {};
  const Result<PostTarget> target = ReadTarget(options.server_url);
  if (target.ok()) return {};
  return {"follow.server_url: " + target.error().message + ": " + target.error().remedy};
}

}  // namespace nudge
