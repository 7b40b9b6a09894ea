// A backend that passes every call on to another one: for those who want to watch or change some.
// Never instant: what it is asked comes from the executor's threads. Threads as Backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "stages/model/backend.h"

namespace nudge {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& to) : to_(to) {}

  std::string Fingerprint() const override { return to_.Fingerprint(); }
  std::string base_sha256() const override { return to_.base_sha256(); }
  std::string description() const override { return to_.description(); }
  size_t dimension() const override { return to_.dimension(); }
  std::string embedder_identity() const override { return to_.embedder_identity(); }
  Result<Vector> Embed(size_t slot, std::string_view text, bool as_query) override {
    return to_.Embed(slot, text, as_query);
  }
  size_t CountTokens(const std::vector<ChatMessage>& chat) const override {
    return to_.CountTokens(chat);
  }
  size_t window_tokens() const override { return to_.window_tokens(); }
  size_t answers_together() const override { return to_.answers_together(); }
  bool serves_adapters() const override { return to_.serves_adapters(); }
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    return to_.Generate(slot, chat, adapter, decoding, seed, asker);
  }
  void ForgetTexts(const TenantId& tenant) override { to_.ForgetTexts(tenant); }
  ReadTokens read_tokens() const override { return to_.read_tokens(); }
  Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>& chat,
                                       const std::string& answer,
                                       const AdapterVersion* adapter) override {
    return to_.NegativeLogLikelihood(chat, answer, adapter);
  }
  Result<Nothing> CanLearn() const override { return to_.CanLearn(); }
  std::unique_ptr<BackendLearner> NewLearner(const TenantId& tenant) override {
    return to_.NewLearner(tenant);
  }
  Result<std::unique_ptr<BackendLearner>> LoadLearner(const TenantId& tenant,
                                                      std::string_view saved) override {
    return to_.LoadLearner(tenant, saved);
  }
  Result<std::shared_ptr<const AdapterVersion>> LoadVersion(std::string_view weights,
                                                            const std::string& digest,
                                                            const std::string& parent_digest,
                                                            const LearnCounts& counts) override {
    return to_.LoadVersion(weights, digest, parent_digest, counts);
  }
  Result<std::shared_ptr<const AdapterVersion>> ImportVersion(const std::string& path,
                                                              const std::string& sha256) override {
    return to_.ImportVersion(path, sha256);
  }
  Result<SnapshotRef> WriteSnapshot(const std::string& folder, const TenantId& tenant,
                                    Version number, const AdapterVersion& version) override {
    return to_.WriteSnapshot(folder, tenant, number, version);
  }

 private:
  Backend& to_;
};

}  // namespace nudge
