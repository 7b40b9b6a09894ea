#include "stages/model/remote_backend.h"

#include <utility>

#include "stages/model/forwarding_backend.h"
#include "stages/model/remote/chat_server.h"
#include "stages/model/remote/tries.h"

namespace nudge {
namespace {

ChatServerOptions ServerOptions(const RemoteBackendOptions& options) {
  for (const std::string& problem : WrongOptions(options)) throw StartError(problem);
  return {options.url,
          ReadServerKey(options.key_file, "model.openai.key_file"),
          {options.connect_timeout, options.answer_timeout, options.response_bytes_max},
          options.retries_max,
          options.answer_bytes_max};
}

class RemoteBackend final : public ForwardingBackend {
 public:
  RemoteBackend(RemoteBackendOptions options, std::unique_ptr<Backend> local)
      : ForwardingBackend(*local),
        options_(std::move(options)),
        local_(std::move(local)),
        server_(ServerOptions(options_)) {}

  std::string Fingerprint() const override {
    return local_->Fingerprint() + " answered elsewhere by " + options_.model;
  }
  std::string description() const override {
    return "model " + options_.model + " at " + options_.url +
           " answers, as the base; here: " + local_->description();
  }
  bool serves_adapters() const override { return false; }

  // Answers take no thread of the local backend's own.
  size_t answers_together() const override { return 0; }
  ReadTokens read_tokens() const override { return {}; }

  Result<Completed> Generate(size_t, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    if (adapter != nullptr) {
      return Error{Code::kUnsupportedModel,
                   "the server that answers has the base model, not what is learnt here",
                   "ask the base, or choose the local backend"};
    }
    Result<ChatReply> reply =
        server_.Ask({options_.model, chat, decoding, seed}, {asker.cancelled, asker.on_text});
    if (!reply.ok()) return reply.error();
    return Completed{std::move(reply->text),
                     reply->prompt_tokens.value_or(static_cast<uint32_t>(CountTokens(chat))),
                     reply->completion_tokens.value_or(0), reply->finish_reason};
  }

 private:
  const RemoteBackendOptions options_;
  const std::unique_ptr<Backend> local_;
  const ChatServer server_;
};

}  // namespace

std::unique_ptr<Backend> MakeRemoteBackend(RemoteBackendOptions options,
                                           std::unique_ptr<Backend> local) {
  return std::make_unique<RemoteBackend>(std::move(options), std::move(local));
}

}  // namespace nudge
