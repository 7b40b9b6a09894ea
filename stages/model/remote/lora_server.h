// A server that takes adapters while it runs: names and folders -> [LoraServer] -> what it serves.
//
// The protocol is vLLM's (`--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING): GET /models lists the
// base model and the adapters by name, POST /load_lora_adapter takes a folder in PEFT's form under
// a name, POST /unload_lora_adapter takes the name away.
//
// What the server says of one adapter is that adapter's error (kModelFailed). All else would be
// said of every one: it is not there, too busy, too slow, refuses the key, takes no adapters. That
// is kUnavailable; where it may pass, the call is tried again first (tries.h).
//
// Any thread; a call holds its thread, and ends soon after `cancelled` says so. No error names the
// key.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "stages/model/remote/http_post.h"

namespace nudge {

struct LoraServerOptions {
  std::string url;  // below which /load_lora_adapter is
  std::string key;  // empty: none
  PostLimits limits;
  uint32_t retries_max = 8;
};

class LoraServer {
 public:
  using Cancelled = std::function<bool()>;  // may be empty

  // Throws StartError: the URL is none, TLS cannot be had.
  explicit LoraServer(LoraServerOptions options);

  // Of all that it serves, the base model too.
  Result<std::set<std::string>> Names(const Cancelled& cancelled) const;

  // `folder` is where the server looks for it. A name that it has already is loaded, whatever it
  // was loaded from: a name must stand for its content.
  Result<Nothing> Load(const std::string& name, const std::string& folder,
                       const Cancelled& cancelled) const;

  // A name that it does not have is unloaded.
  Result<Nothing> Unload(const std::string& name, const Cancelled& cancelled) const;

 private:
  using Call = std::function<PostReply(const PostWatch&)>;

  Result<PostReply> Try(const Call& call, const Cancelled& cancelled) const;
  Result<Nothing> Change(std::string_view path, const std::string& json, const std::string& name,
                         bool is_to_be_there, const Cancelled& cancelled) const;
  Error Unavailable(const std::string& what, const std::string& remedy) const;

  const LoraServerOptions options_;
  const PostClient client_;
};

}  // namespace nudge
