#include "stages/model/template_backend.h"

#include <cmath>
#include <utility>

#include "stages/hash.h"
#include "stages/model/adapters/import_folder.h"
#include "stages/state.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

// FNV-1a, mixed: a stand-in should cost little beside the engine that it stands in.
uint64_t WordHash(std::string_view word) {
  uint64_t hash = 14695981039346656037U;
  for (const char c : word) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211U;
  return RandomAt(hash, 0);
}

std::string ChatText(const std::vector<ChatMessage>& chat) {
  std::string text;
  for (const ChatMessage& message : chat) {
    text += message.role;
    text += '\n';
    text += message.text;
    text += '\n';
  }
  return text;
}

class TemplateLearner final : public BackendLearner {
 public:
  explicit TemplateLearner(const TenantId& tenant) : digest_(Sha256Hex("template:" + tenant)) {}

  Result<LessonReport> Step(const TextExample& text, const ParallelFor&) override {
    digest_ = Hex(Sha256Parts({digest_, ChatText(text.chat), text.shown,
                               text.correction.value_or(""), std::to_string(text.reward)}));
    ++counts_.steps;
    ++counts_.examples;
    if (text.correction) {
      ++counts_.corrections;
    } else if (text.reward > 0) {
      ++counts_.ups;
    } else {
      ++counts_.downs;
    }
    LessonReport report;
    report.tokens = static_cast<uint32_t>(text.shown.size());
    report.accepted = true;
    return report;
  }

  Result<std::shared_ptr<const AdapterVersion>> Publish(const std::string& parent,
                                                        const ParallelFor&) override {
    auto version = std::make_shared<AdapterVersion>();
    version->digest = version->weights = digest_;
    version->parent_digest = parent;
    version->counts = counts_;
    return std::shared_ptr<const AdapterVersion>(std::move(version));
  }

  Result<Nothing> Adopt(const AdapterVersion* version) override {
    digest_ = version == nullptr ? Sha256Hex("template: base") : version->weights;
    return Nothing{};
  }

  std::string Save() const override {
    ByteWriter out;
    out.U8(kFormat);
    out.Text(digest_);
    for (const uint64_t count : {counts_.steps, counts_.examples, counts_.corrections, counts_.ups,
                                 counts_.downs, counts_.refused}) {
      out.U64(count);
    }
    return out.Take();
  }

  bool Load(std::string_view saved) {
    ByteReader in(saved);
    if (in.U8() != kFormat) return false;
    digest_ = in.Text();
    for (uint64_t* count : {&counts_.steps, &counts_.examples, &counts_.corrections, &counts_.ups,
                            &counts_.downs, &counts_.refused}) {
      *count = in.U64();
    }
    return in.complete();
  }

 private:
  std::string digest_;
  LearnCounts counts_;
};

class TemplateBackend final : public Backend {
 public:
  explicit TemplateBackend(TemplateBackendOptions options) : options_(std::move(options)) {}

  std::string Fingerprint() const override { return "template/1"; }
  std::string base_sha256() const override { return Sha256Hex("template: base"); }
  std::string description() const override {
    return "the template backend: no model, answers are hashes, nothing is learnt";
  }
  bool instant() const override { return options_.instant && !options_.before_each_call; }
  size_t dimension() const override { return options_.dimension; }
  std::string embedder_identity() const override {
    return "template words/" + std::to_string(options_.dimension);
  }

  Result<Vector> Embed(size_t, std::string_view text, bool) override {
    Delay();
    Vector vector(options_.dimension, 0.0f);
    if (vector.empty()) return vector;
    size_t begin = 0;
    while (begin < text.size()) {
      const size_t end = std::min(text.find(' ', begin), text.size());
      if (end > begin) {
        vector[WordHash(text.substr(begin, end - begin)) % vector.size()] += 1.0f;
      }
      begin = end + 1;
    }
    float norm = 0;
    for (const float value : vector) norm += value * value;
    if (norm == 0) {
      vector[0] = norm = 1;
    }
    const float length = std::sqrt(norm);
    for (float& value : vector) value /= length;
    return vector;
  }

  size_t CountTokens(const std::vector<ChatMessage>& chat) const override {
    size_t tokens = 0;
    for (const ChatMessage& message : chat) tokens += 4 + message.text.size() / 4;
    return tokens;
  }
  size_t window_tokens() const override { return options_.window_tokens; }

  Result<Completed> Generate(size_t, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    Delay();
    const std::string draw = decoding.temperature > 0 ? std::to_string(seed) : "greedy";
    const std::string hash = Hex(Sha256Parts(
        {ChatText(chat), adapter == nullptr ? "base" : std::string_view(adapter->digest), draw}));
    Completed completed;
    completed.text = "[template answer " + hash.substr(0, 16) + "]";
    if (asker.on_text) {  // in two pieces
      asker.on_text(std::string_view(completed.text).substr(0, 10));
      asker.on_text(std::string_view(completed.text).substr(10));
    }
    completed.prompt_tokens = static_cast<uint32_t>(CountTokens(chat));
    completed.completion_tokens = 4;
    completed.finish_reason = FinishReason::kStop;
    return completed;
  }

  Result<double> NegativeLogLikelihood(const std::vector<ChatMessage>&, const std::string&,
                                       const AdapterVersion*) override {
    return Error{Code::kUnsupportedModel, "the template backend has no likelihoods",
                 "choose the local backend to measure learning"};
  }

  Result<Nothing> CanLearn() const override { return Nothing{}; }
  std::unique_ptr<BackendLearner> NewLearner(const TenantId& tenant) override {
    return std::make_unique<TemplateLearner>(tenant);
  }

  Result<std::unique_ptr<BackendLearner>> LoadLearner(const TenantId& tenant,
                                                      std::string_view saved) override {
    auto learner = std::make_unique<TemplateLearner>(tenant);
    if (!learner->Load(saved)) {
      return Error{Code::kUnreadableFile, "state: the learner of tenant " + tenant + " is damaged",
                   "restore a backup of the state, or rebuild it from the log"};
    }
    return std::unique_ptr<BackendLearner>(std::move(learner));
  }

  Result<std::shared_ptr<const AdapterVersion>> LoadVersion(std::string_view weights,
                                                            const std::string& digest,
                                                            const std::string& parent_digest,
                                                            const LearnCounts& counts) override {
    auto version = std::make_shared<AdapterVersion>();
    version->digest = digest;
    version->parent_digest = parent_digest;
    version->weights = weights;
    version->counts = counts;
    return std::shared_ptr<const AdapterVersion>(std::move(version));
  }

  // Any file will do, whatever is in it: the version is a function of its bytes alone.
  Result<std::shared_ptr<const AdapterVersion>> ImportVersion(const std::string& path,
                                                              const std::string& sha256) override {
    Delay();
    const Result<AdapterFiles> files = ReadImport(options_.import_folder, path, sha256);
    if (!files.ok()) return files.error();
    auto version = std::make_shared<AdapterVersion>();
    version->digest = version->weights = Sha256Hex("template import:" + files->bytes);
    return std::shared_ptr<const AdapterVersion>(std::move(version));
  }

  Result<SnapshotRef> WriteSnapshot(const std::string&, const TenantId& tenant, Version number,
                                    const AdapterVersion& version) override {
    return SnapshotRef{"template/" + tenant + "/" + std::to_string(number),
                       Sha256Hex(version.weights),
                       number,
                       version.digest,
                       version.parent_digest,
                       base_sha256()};
  }

 private:
  void Delay() const {
    if (options_.before_each_call) options_.before_each_call();
  }

  const TemplateBackendOptions options_;
};

}  // namespace

std::unique_ptr<Backend> MakeTemplateBackend(TemplateBackendOptions options) {
  return std::make_unique<TemplateBackend>(std::move(options));
}

}  // namespace nudge
