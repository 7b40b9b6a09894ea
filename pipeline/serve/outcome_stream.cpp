#include "pipeline/serve/outcome_stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "connectors/file_source.h"
#include "connectors/kafka_outcomes.h"

namespace nudge {
namespace {

constexpr int kLinesATurn = 512;

class FileStream final : public OutcomeStream {
 public:
  FileStream(const std::string& path, OnLine on_line)
      : source_({.path = path, .follow = true, .line_bytes = kOutcomeLineBytes}),
        on_line_(std::move(on_line)) {}

  Result<Nothing> Turn(std::chrono::milliseconds wait) override {
    for (int taken = 0; taken < kLinesATurn; ++taken) {
      const Result<Source::Pull> pulled =
          source_.Next(record_, taken == 0 ? wait : std::chrono::milliseconds(0));
      if (!pulled.ok()) return pulled.error();
      if (*pulled != Source::Pull::kRecord) {
        has_caught_up_ = true;
        break;
      }
      if (!record_.refusal) on_line_(record_.bytes);
    }
    return Nothing{};
  }
  bool has_caught_up() const override { return has_caught_up_; }
  OfferedAdapters::Positions positions() const override { return {}; }

 private:
  FileSource source_;
  const OnLine on_line_;
  Record record_;
  bool has_caught_up_ = false;
};

// Snapshots are named by receipts, and by dead letters of receipts that were too large.
std::vector<std::string> TopicsWithSnapshots(const KafkaOptions& options) {
  std::vector<std::string> topics{options.receipt_topic};
  if (options.dead_letter_topic != options.receipt_topic) {
    topics.push_back(options.dead_letter_topic);
  }
  return topics;
}

class TopicStream final : public OutcomeStream {
 public:
  TopicStream(const KafkaOptions& options, OfferedAdapters::Positions positions, OnLine on_line)
      : positions_(std::move(positions)),
        on_line_(std::move(on_line)),
        outcomes_(
            options, TopicsWithSnapshots(options),
            [this](const KafkaOutcomes::Stream& stream) { return BeginOf(stream); },
            [this](const KafkaOutcomes::Message& message) { Take(message); }) {}

  Result<Nothing> Turn(std::chrono::milliseconds wait) override {
    const Result<bool> turned = outcomes_.Turn(wait);
    if (!turned.ok()) return turned.error();
    return Nothing{};
  }
  bool has_caught_up() const override { return outcomes_.has_caught_up(); }
  OfferedAdapters::Positions positions() const override { return positions_; }

 private:
  // A topic that ends before it was made anew.
  int64_t BeginOf(const KafkaOutcomes::Stream& stream) const {
    const auto known = positions_.find({stream.topic, stream.partition});
    const bool is_there = known != positions_.end() && known->second <= stream.high;
    return is_there ? std::max(known->second, stream.low) : stream.low;
  }

  void Take(const KafkaOutcomes::Message& message) {
    on_line_(message.line);
    positions_[{message.topic, message.partition}] = message.position + 1;
  }

  OfferedAdapters::Positions positions_;
  const OnLine on_line_;
  KafkaOutcomes outcomes_;  // last: it calls back
};

}  // namespace

std::unique_ptr<OutcomeStream> OutcomesOfFile(const std::string& path,
                                              OutcomeStream::OnLine on_line) {
  return std::make_unique<FileStream>(path, std::move(on_line));
}

std::unique_ptr<OutcomeStream> OutcomesOfTopics(const KafkaOptions& options,
                                                OfferedAdapters::Positions positions,
                                                OutcomeStream::OnLine on_line) {
  return std::make_unique<TopicStream>(options, std::move(positions), std::move(on_line));
}

}  // namespace nudge
