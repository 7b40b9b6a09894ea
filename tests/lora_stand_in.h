// A stand-in for vLLM, on loopback, for tests: no model, no answers, only the documented protocol
// by which adapters come and go while it runs. It says of itself that it is none.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stages/guarded.h"
#include "tests/fault_server.h"

namespace nudge::testing {

class LoraStandIn {
 public:
  static constexpr char kBase[] = "stand-in-for-vllm";

  // As one that was started anew: it has the base alone.
  explicit LoraStandIn(uint16_t port = 0)
      : server_({[this](const FaultServer::Peer& peer) { Answer(peer); }}, true, port) {}

  std::string url() const { return server_.url(); }
  uint16_t port() const { return server_.port(); }

  std::set<std::string> adapters() const {
    const MutexLock lock(mutex_);
    return adapters_;
  }
  // What changed, in order: "+NAME" and "-NAME".
  std::vector<std::string> changes() const {
    const MutexLock lock(mutex_);
    return changes_;
  }
  std::vector<std::string> requests() const { return server_.requests(); }

  // It refuses what it is to load, as it does one of a rank that is too high.
  void SetRefusing(bool is_refusing) {
    const MutexLock lock(mutex_);
    is_refusing_ = is_refusing;
  }

 private:
  using Json = nlohmann::json;

  static std::string Refusal(const std::string& message, const std::string& type, int code) {
    const Json error = {{"message", message}, {"type", type}, {"param", nullptr}, {"code", code}};
    return HttpText(std::to_string(code) + " Refused", Json{{"error", error}}.dump());
  }

  void Answer(const FaultServer::Peer& peer) {
    const std::string& request = peer.request();
    const MutexLock lock(mutex_);
    if (request.starts_with("GET /v1/models ")) {
      peer.Send(HttpText("200 OK", Models()));
    } else if (request.starts_with("POST /v1/load_lora_adapter ")) {
      peer.Send(Load(BodyOf(request)));
    } else if (request.starts_with("POST /v1/unload_lora_adapter ")) {
      peer.Send(Unload(BodyOf(request)));
    } else {
      peer.Send(HttpText("404 Not Found", R"({"detail":"Not Found"})"));
    }
  }

  static Json BodyOf(const std::string& request) {
    return Json::parse(request.substr(request.find("\r\n\r\n") + 4));
  }

  std::string Models() const REQUIRES(mutex_) {
    Json data = Json::array({{{"id", kBase}, {"object", "model"}}});
    for (const std::string& name : adapters_) {
      data.push_back({{"id", name}, {"object", "model"}, {"parent", kBase}});
    }
    return Json{{"object", "list"}, {"data", data}}.dump();
  }

  std::string Load(const Json& body) REQUIRES(mutex_) {
    const std::string name = body.at("lora_name");
    const std::filesystem::path folder = body.at("lora_path").get<std::string>();
    if (adapters_.contains(name)) {
      return Refusal("The lora adapter '" + name + "' has already been loaded.", "InvalidUserInput",
                     400);
    }
    if (!std::filesystem::exists(folder / "adapter_config.json") ||
        !std::filesystem::exists(folder / "adapter_model.safetensors")) {
      return Refusal("No adapter found for " + folder.string(), "NotFoundError", 404);
    }
    if (is_refusing_) {
      return Refusal("LoRA rank 64 is greater than max_lora_rank 16.", "BadRequestError", 400);
    }
    adapters_.insert(name);
    changes_.push_back("+" + name);
    return HttpText("200 OK", "Success: LoRA adapter '" + name + "' added successfully.");
  }

  std::string Unload(const Json& body) REQUIRES(mutex_) {
    const std::string name = body.at("lora_name");
    if (adapters_.erase(name) == 0) {
      return Refusal("The lora adapter '" + name + "' cannot be found.", "NotFoundError", 404);
    }
    changes_.push_back("-" + name);
    return HttpText("200 OK", "Success: LoRA adapter '" + name + "' removed successfully.");
  }

  mutable Mutex mutex_;
  std::set<std::string> adapters_ GUARDED_BY(mutex_);
  std::vector<std::string> changes_ GUARDED_BY(mutex_);
  bool is_refusing_ GUARDED_BY(mutex_) = false;
  FaultServer server_;  // last: it calls back
};

}  // namespace nudge::testing
