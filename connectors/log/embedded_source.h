// The embedded log as a source: EmbeddedLog -> [EmbeddedSource] -> Record, as soon as it is
// durable.
//
// One partition, 0; the offset is the log's, the key the tenant that the record was stored under.
// It never ends. What was erased delivers nothing: offsets then have gaps. Threads as source.h
// says.
#pragma once

#include <optional>

#include "connectors/log/embedded_log.h"
#include "connectors/source.h"

namespace nudge {

struct EmbeddedSourceOptions {
  size_t line_bytes = 1 << 20;   // a larger record is delivered as a Refusal with its head
  size_t head_bytes = 64 << 10;  // of that head
};

class EmbeddedSource final : public Source {
 public:
  explicit EmbeddedSource(const EmbeddedLog& log, EmbeddedSourceOptions options = {})
      : log_(log), options_(options) {}

  void Listen(PartitionListener& listener) override { listener_ = &listener; }

  // kUnreadableFile: a record is damaged, or the disk does not give it.
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override;

  // Backward too, as far as the log is kept. kUnreadableFile for what went by retention, and for
  // what the log never had.
  Result<Nothing> Seek(int32_t partition, int64_t offset) override;
  void Pause(int32_t) override { paused_ = true; }
  void Resume(int32_t) override { paused_ = false; }

 private:
  Result<bool> Read(Record& record);
  Result<Nothing> Open(int64_t offset);

  const EmbeddedLog& log_;
  const EmbeddedSourceOptions options_;
  PartitionListener* listener_ = nullptr;
  bool assigned_ = false;
  bool paused_ = false;
  std::optional<Error> error_;  // every later Next gives it again
  int64_t next_ = 0;

  std::optional<SegmentReader> reader_;
  EmbeddedLog::Place place_;  // of the reader's segment
  int64_t reader_next_ = 0;   // the offset that it reads next
};

}  // namespace nudge
