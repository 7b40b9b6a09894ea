#include "stages/model/remote/lora_server.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "stages/model/remote/tries.h"

namespace nudge {
namespace {

using End = PostReply::End;
using Json = nlohmann::json;

constexpr size_t kWordsBytes = 300;

PostTarget TargetOf(const std::string& url) {
  Result<PostTarget> target = ReadTarget(url);
  if (!target.ok()) {
    throw StartError("follow.server_url: " + target.error().message + ": " + target.error().remedy);
  }
  return *std::move(target);
}

std::string Text(const Json& object) {
  return object.dump(-1, ' ', true, Json::error_handler_t::replace);
}

// Why the server refuses, in its own words: beside a refusal of vLLM's stands a message, at the top
// or in `error`. Empty: these are not the words of a server that takes adapters.
std::string WordsOf(const std::string& body) {
  const Json root = Json::parse(body, nullptr, false);
  if (!root.is_object()) return {};
  const Json& error = root.contains("error") ? root["error"] : root;
  const bool has_words = error.is_object() && error.contains("message");
  if (!has_words || !error["message"].is_string()) return {};
  return Text(error["message"]).substr(0, kWordsBytes);
}

bool IsOfTheAdapter(const PostReply& reply) {
  const bool may_be = reply.status == 400 || reply.status == 404 || reply.status == 422;
  return may_be && !WordsOf(reply.body).empty();
}

std::string RemedyFor(int status) {
  if (status == 401 || status == 403) return "see follow.key_file";
  if (MayPass(status)) return "see that the server is well, and its log";
  return "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and see that "
         "follow.server_url ends where /load_lora_adapter follows (in /v1)";
}

}  // namespace

LoraServer::LoraServer(LoraServerOptions options)
    : options_(std::move(options)),
      client_(TargetOf(options_.url), options_.key, options_.limits) {}

Error LoraServer::Unavailable(const std::string& what, const std::string& remedy) const {
  return {Code::kUnavailable,
          "the server that takes adapters (follow.server_url, " + options_.url + ") " + what,
          remedy};
}

// A whole reply, that nothing but its status may be wrong with.
Result<PostReply> LoraServer::Try(const Call& call, const Cancelled& cancelled) const {
  for (uint32_t tries = 1;; ++tries) {
    PostReply reply = call({cancelled, {}});
    const bool is_whole = reply.end == End::kWhole;
    if (is_whole && !MayPass(reply.status)) return reply;
    const bool is_last = reply.end == End::kTooLarge || tries > options_.retries_max;
    if (!is_last && Pause(PauseBehind(tries), cancelled)) continue;
    const std::string after =
        "does not answer, after " + std::to_string(tries) + (tries == 1 ? " try: " : " tries: ");
    if (is_whole) {
      return Unavailable(after + "it says HTTP " + std::to_string(reply.status),
                         RemedyFor(reply.status));
    }
    return Unavailable(after + reply.what,
                       reply.end == End::kLate
                           ? "raise follow.request_timeout_ms where loading takes longer"
                           : "see that the server runs and can be reached");
  }
}

Result<std::set<std::string>> LoraServer::Names(const Cancelled& cancelled) const {
  const Result<PostReply> reply =
      Try([&](const PostWatch& watch) { return client_.Get("/models", watch); }, cancelled);
  if (!reply.ok()) return reply.error();
  if (reply->status != 200) {
    return Unavailable("does not list its models: it says HTTP " + std::to_string(reply->status),
                       RemedyFor(reply->status));
  }
  const Json root = Json::parse(reply->body, nullptr, false);
  if (!root.is_object() || !root.contains("data") || !root["data"].is_array()) {
    return Unavailable("does not list its models: its reply has no list `data`", RemedyFor(404));
  }
  std::set<std::string> names;
  for (const Json& model : root["data"]) {
    if (model.is_object() && model.contains("id") && model["id"].is_string()) {
      names.insert(model["id"].get<std::string>());
    }
  }
  return names;
}

Result<Nothing> LoraServer::Load(const std::string& name, const std::string& folder,
                                 const Cancelled& cancelled) const {
  const Json request = {{"lora_name", name}, {"lora_path", folder}};
  return Change("/load_lora_adapter", Text(request), name, true, cancelled);
}

Result<Nothing> LoraServer::Unload(const std::string& name, const Cancelled& cancelled) const {
  const Json request = {{"lora_name", name}};
  return Change("/unload_lora_adapter", Text(request), name, false, cancelled);
}

// A refusal may say that all is as it should be: then the list says so, too.
Result<Nothing> LoraServer::Change(std::string_view path, const std::string& json,
                                   const std::string& name, bool is_to_be_there,
                                   const Cancelled& cancelled) const {
  const Result<PostReply> reply =
      Try([&](const PostWatch& watch) { return client_.Post(path, json, watch); }, cancelled);
  if (!reply.ok()) return reply.error();
  if (reply->status == 200) return Nothing{};
  const std::string status = "HTTP " + std::to_string(reply->status);
  if (!IsOfTheAdapter(*reply)) {
    return Unavailable("takes no adapters: it says " + status, RemedyFor(reply->status));
  }
  const Result<std::set<std::string>> names = Names(cancelled);
  if (!names.ok()) return names.error();
  if (names->contains(name) == is_to_be_there) return Nothing{};
  return Error{Code::kModelFailed,
               std::string("the server does not ") + (is_to_be_there ? "load " : "unload ") + name +
                   ": " + status + ": " + WordsOf(reply->body),
               "see its log; it must know rank and modules of the adapters (--max-lora-rank), and "
               "find the folder (follow.lora_folder)"};
}

}  // namespace nudge
