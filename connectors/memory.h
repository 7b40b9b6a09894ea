// A source and a sink in memory, for tests and benchmarks: everything a file does but the file.
//
// One partition, 0, whose offsets count the lines from 0. Threads as source.h and sink.h say.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "connectors/sink.h"
#include "connectors/source.h"

namespace nudge {

class MemorySource final : public Source {
 public:
  explicit MemorySource(std::vector<std::string> lines);

  void Listen(PartitionListener& listener) override { listener_ = &listener; }
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override;
  Result<Nothing> Seek(int32_t partition, int64_t offset) override;
  void Pause(int32_t) override { paused_ = true; }
  void Resume(int32_t) override { paused_ = false; }

 private:
  const std::vector<std::string> lines_;
  PartitionListener* listener_ = nullptr;
  bool assigned_ = false;
  bool paused_ = false;
  size_t next_ = 0;
};

// Lines of any partitions. Outlives the run that writes it, so that a second run can read it back.
class MemorySink final : public Sink {
 public:
  Result<Nothing> Append(const OutcomeLine& line) override;
  Result<Nothing> Commit() override;
  void Drop(int32_t partition) override;
  Result<std::optional<Tail>> Last(int32_t partition) override;
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override;

  // What is committed, in the order of the commits.
  const std::vector<OutcomeLine>& lines() const { return lines_; }
  size_t commits() const { return commits_; }

 private:
  std::vector<OutcomeLine> lines_;
  std::vector<OutcomeLine> pending_;
  size_t commits_ = 0;
};

}  // namespace nudge
