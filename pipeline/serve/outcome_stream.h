// Committed outcomes as they come, for whoever follows a run from outside of it.
//
//   OUTPUT/outcomes.jsonl | receipt and dead letter topics -> [OutcomeStream] -> outcome
//
// The file is read from its beginning at each start, topics from where the caller stood. One
// thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "connectors/kafka_options.h"
#include "pipeline/serve/offered_adapters.h"
#include "stages/result.h"

namespace nudge {

class OutcomeStream {
 public:
  using OnLine = std::function<void(const std::string& line)>;

  virtual ~OutcomeStream() = default;

  // Reads what is at hand, some hundreds of lines at most; waits so long where there is nothing.
  // kUnavailable: the brokers refuse; kUnreadableFile: what is read is gone, or became shorter.
  virtual Result<Nothing> Turn(std::chrono::milliseconds wait) = 0;

  // Whether all was read that was there at the start.
  virtual bool has_caught_up() const = 0;

  // Where a later stream goes on; empty for a file.
  virtual OfferedAdapters::Positions positions() const = 0;
};

// Throws StartError: the file is not there.
std::unique_ptr<OutcomeStream> OutcomesOfFile(const std::string& path,
                                              OutcomeStream::OnLine on_line);

// Begins at these positions, and streams without one at their oldest message. Throws StartError as
// KafkaOutcomes does.
std::unique_ptr<OutcomeStream> OutcomesOfTopics(const KafkaOptions& options,
                                                OfferedAdapters::Positions positions,
                                                OutcomeStream::OnLine on_line);

}  // namespace nudge
