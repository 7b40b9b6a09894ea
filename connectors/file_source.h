// Events from a recorded file: one a line, plain or gzip, or from standard input.
//
//   file | pipe | standard input -> [FileSource] -> Record
//
// One partition, 0; the offset is the number of the line, counted from 0. Lines end with LF or CR
// LF; the last one needs no end. Blank lines (spaces, tabs) are counted but deliver nothing, so
// offsets have gaps. A byte order mark before the first line is dropped. Gzip is known by its first
// byte, may have several members, and is read as a stream. Memory is bounded by the limits,
// whatever the file holds. Threads as source.h says.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "connectors/source.h"

namespace nudge {

struct FileSourceOptions {
  std::string path;  // "-": standard input
  // At the end of a file wait for more, and deliver a line only once it has its end.
  bool follow = false;
  size_t line_bytes = 1 << 20;   // a longer line is delivered as a Refusal with its head
  size_t head_bytes = 64 << 10;  // of that head
};

class FileSource final : public Source {
 public:
  // Throws StartError if the file is not there, cannot be read, or cannot be followed.
  explicit FileSource(FileSourceOptions options);
  ~FileSource() override;

  void Listen(PartitionListener& listener) override { listener_ = &listener; }

  // kUnreadableFile: the file cannot be read on: an I/O error; gzip data that is damaged or cut
  // short (every whole line before it was delivered); a followed file that became shorter; fewer
  // lines than Seek asked for. Refusals are kTooLarge.
  Result<Pull> Next(Record& record, std::chrono::milliseconds timeout) override;

  // Forward is done by Next, skipping lines. Backward starts the file again; a pipe cannot.
  Result<Nothing> Seek(int32_t partition, int64_t offset) override;

  void Pause(int32_t) override { paused_ = true; }
  void Resume(int32_t) override { paused_ = false; }

  // How far the file is read, for a progress bar: bytes as stored, and of how many (nothing for a
  // pipe).
  uint64_t bytes_read() const;
  std::optional<uint64_t> bytes_total() const;

 private:
  class Stream;
  class LongLine;
  using Time = std::chrono::steady_clock::time_point;

  Result<Pull> PullLine(Record& record, Time deadline);
  bool ReadLine();
  void Extend(std::string_view piece);
  bool Deliver(Record& record);
  Error TooFewLines() const;

  const FileSourceOptions options_;
  PartitionListener* listener_ = nullptr;
  bool assigned_ = false;
  bool paused_ = false;
  std::unique_ptr<Stream> stream_;
  std::optional<Error> error_;  // every later Next gives it again

  std::string block_;  // text; what stands before position_ is done
  size_t position_ = 0;
  std::string line_;  // what was read of the current line; of a long one its head
  std::unique_ptr<LongLine> long_line_;
  int64_t line_number_ = 0;  // of the current line
  int64_t seek_to_ = 0;      // lines before it are skipped
  bool ended_ = false;
};

}  // namespace nudge
