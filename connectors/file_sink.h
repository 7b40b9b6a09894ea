// Outcomes into a folder: the second half of the log as a file that people and programs can read.
//
//   OutcomeLine -> [FileSink] -> outcomes.jsonl      every outcome, in the order of the commits
//                             -> dead_letters.jsonl  a copy of the dead letters, for people
//
// outcomes.jsonl is the truth; the copy is made from it again when a sink resumes. A commit is one
// write of whole lines, and a line is the unit of what survives a crash: a last line without its
// end is cut off on resuming, all before it stand. One process writes a folder at a time (a lock).
// Lines that were erased (erased_outcomes.h) keep their places and are not read back: ReadBack from
// before one fails. Threads as sink.h says.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "connectors/sink.h"

namespace nudge {

struct FileSinkOptions {
  enum class Existing {
    kRefuse,     // outcomes that are there already are an error
    kOverwrite,  // they are removed
    kResume,     // they are read, and the new ones follow
  };
  std::string folder;  // made if it is not there
  Existing existing = Existing::kRefuse;
  bool sync = false;  // every commit waits for the disk: outcomes survive a power cut
};

class FileSink final : public Sink {
 public:
  // Throws StartError: the folder cannot be made or written, is in use, is not empty (kRefuse), or
  // has a damaged line before its last one (kResume; the message says which).
  explicit FileSink(FileSinkOptions options);
  ~FileSink() override;  // what is not committed is gone
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;

  Result<Nothing> Append(const OutcomeLine& line) override;

  // kUnreadableFile when the disk is full or the file cannot be written: the file is cut back to
  // the last commit, so that it holds whole lines only.
  Result<Nothing> Commit() override;
  void Drop(int32_t partition) override;
  Result<std::optional<Tail>> Last(int32_t partition) override;

  // One that goes on where the last one was stopped by its `visit` reads on from there: reading all
  // in parts reads the file once.
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit) override;

 private:
  // A file of lines that is only ever as long as its last commit.
  struct Lines {
    std::string path;
    int descriptor = -1;
    uint64_t committed_bytes = 0;
    std::string pending;
  };
  struct Pending {
    int32_t partition;
    size_t bytes;
    bool is_dead_letter;
  };

  struct Stopped;  // where a read-back was stopped

  void Open(Lines& lines) const;
  void SyncFolder() const;
  void Resume();
  void ReadCommitted();
  bool Cut(const Lines& lines) const;
  Result<Nothing> Write(const Lines& lines) const;
  Result<Nothing> WriteCopy();
  static void MarkCommitted(Lines& lines);

  const FileSinkOptions options_;
  Lines outcomes_;
  Lines dead_letters_;
  std::vector<Pending> pending_;  // one for each line in outcomes_.pending
  std::map<int32_t, Tail> committed_;
  std::map<int32_t, Tail> appended_;  // with what is pending
  std::unique_ptr<Stopped> stopped_;
};

}  // namespace nudge
