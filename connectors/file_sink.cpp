#include "connectors/file_sink.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "connectors/codec.h"
#include "connectors/erased_outcomes.h"
#include "connectors/file_source.h"
#include "stages/files.h"

namespace nudge {
namespace {

std::string Reason(int error_number) {
  return std::generic_category().message(error_number);
}

// The length of the file up to the end of its last whole line.
uint64_t WholeLines(int descriptor, uint64_t size) {
  std::string block(64 << 10, '\0');
  while (size > 0) {
    const uint64_t begin = size - std::min<uint64_t>(size, block.size());
    const ssize_t read = pread(descriptor, block.data(), size - begin, static_cast<off_t>(begin));
    if (read != static_cast<ssize_t>(size - begin)) return size;
    const size_t end = block.rfind('\n', static_cast<size_t>(read) - 1);
    if (end != block.npos) return begin + end + 1;
    size = begin;
  }
  return 0;
}

FileSource LinesOf(const std::string& path) {
  return FileSource({path, false, kOutcomeLineBytes, 0});
}

// Calls visit(line number, line) for each line that is left.
template <class Visit>
Result<Nothing> ForEachLine(FileSource& source, const Visit& visit) {
  Record record;
  while (true) {
    const Result<Source::Pull> pull = source.Next(record, std::chrono::milliseconds(0));
    if (!pull) return pull.error();
    if (*pull == Source::Pull::kEnd) return Nothing{};
    if (*pull == Source::Pull::kNothing) continue;
    Result<Nothing> visited =
        record.refusal ? record.refusal->error : visit(record.offset, record.bytes);
    if (!visited) return visited;
  }
}

}  // namespace

struct FileSink::Stopped {
  FileSource source;  // after the line
  int32_t partition;
  int64_t passed = -1;              // offset of the partition's line before it; -1: none
  std::optional<std::string> line;  // not taken yet; nothing: at the file's beginning
};

FileSink::FileSink(FileSinkOptions options) : options_(std::move(options)) {
  if (const Result<Nothing> made = MakeFolders(options_.folder); !made.ok()) {
    throw StartError("cannot make the folder " + options_.folder + ": " + made.error().message);
  }
  outcomes_.path = options_.folder + "/outcomes.jsonl";
  dead_letters_.path = options_.folder + "/dead_letters.jsonl";
  try {
    Open(outcomes_);
    if (flock(outcomes_.descriptor, LOCK_EX | LOCK_NB) != 0) {
      throw StartError(outcomes_.path + ": another process writes it");
    }
    Open(dead_letters_);
    if (options_.sync) SyncFolder();
    Resume();
  } catch (...) {
    close(outcomes_.descriptor);
    close(dead_letters_.descriptor);
    throw;
  }
}

FileSink::~FileSink() {
  close(outcomes_.descriptor);
  close(dead_letters_.descriptor);
}

void FileSink::Open(Lines& lines) const {
  Result<Descriptor> opened = OpenFile(lines.path, O_RDWR | O_CREAT | O_APPEND);
  if (!opened.ok()) {
    throw StartError("cannot write " + lines.path + ": " + opened.error().message);
  }
  lines.descriptor = opened->Release();
}

// The names of new files outlive a power cut only with their folder.
void FileSink::SyncFolder() const {
  const int folder = open(options_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool is_synced = folder >= 0 && fsync(folder) == 0;
  const int error_number = errno;
  close(folder);
  if (!is_synced) {
    throw StartError("cannot sync the folder " + options_.folder + ": " + Reason(error_number));
  }
}

// Brings both files to a state that new lines can follow.
void FileSink::Resume() {
  using Existing = FileSinkOptions::Existing;
  for (Lines* lines : {&outcomes_, &dead_letters_}) {
    struct stat status {};
    if (fstat(lines->descriptor, &status) != 0) {
      throw StartError("cannot read " + lines->path + ": " + Reason(errno));
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size > 0 && options_.existing == Existing::kRefuse) {
      throw StartError(lines->path + " is not empty: resume, overwrite, or choose another folder");
    }
    if (lines == &outcomes_ && options_.existing == Existing::kResume) {
      lines->committed_bytes = WholeLines(lines->descriptor, size);
    }
    if (S_ISREG(status.st_mode) && !Cut(*lines)) {
      throw StartError("cannot cut " + lines->path + " to its whole lines: " + Reason(errno));
    }
  }
  if (outcomes_.committed_bytes == 0) return;
  if (const Result<Nothing> finished = FinishErasing(options_.folder); !finished) {
    throw StartError(finished.error().message + "; " + finished.error().remedy);
  }
  ReadCommitted();
}

// Learns where each partition stands and makes the copy of the dead letters again.
void FileSink::ReadCommitted() {
  FileSource source = LinesOf(outcomes_.path);
  Result<Nothing> read =
      ForEachLine(source, [&](int64_t number, const std::string& line) -> Result<Nothing> {
        if (std::optional<ErasedOutcome> erased = DecodeErased(line)) {
          committed_[erased->partition] = {erased->offset, std::move(erased->chain)};
          return Nothing{};
        }
        Result<RecordedOutcome> recorded = DecodeOutcome(line);
        if (!recorded) {
          Error error = recorded.error();
          error.message = "line " + std::to_string(number + 1) + ": " + error.message;
          return error;
        }
        committed_[recorded->partition] = {recorded->offset, std::move(recorded->chain)};
        if (KindOf(recorded->outcome) == OutcomeKind::kDeadLetter) {
          dead_letters_.pending.append(line).push_back('\n');
          if (dead_letters_.pending.size() >= kOutcomeLineBytes) return WriteCopy();
        }
        return Nothing{};
      });
  if (read) read = WriteCopy();
  if (!read) {
    throw StartError(outcomes_.path + ": " + read.error().message + "; " + read.error().remedy);
  }
  appended_ = committed_;
}

Result<Nothing> FileSink::WriteCopy() {
  Result<Nothing> written = Write(dead_letters_);
  if (written) MarkCommitted(dead_letters_);
  return written;
}

Result<Nothing> FileSink::Append(const OutcomeLine& line) {
  if (line.bytes.size() > kOutcomeLineBytes) {
    return Error{Code::kTooLarge,
                 "outcome: " + std::to_string(line.bytes.size()) + " bytes are over the limit of " +
                     std::to_string(kOutcomeLineBytes),
                 ""};
  }
  const auto last = appended_.find(line.partition);
  if (last != appended_.end() && line.offset <= last->second.offset) {
    return Error{Code::kInternal,
                 "outcome of offset " + std::to_string(line.offset) + " after that of offset " +
                     std::to_string(last->second.offset),
                 ""};
  }
  appended_[line.partition] = {line.offset, std::string(ChainOf(line.bytes))};
  outcomes_.pending.append(line.bytes).push_back('\n');
  const bool is_dead_letter = line.kind == OutcomeKind::kDeadLetter;
  if (is_dead_letter) dead_letters_.pending.append(line.bytes).push_back('\n');
  pending_.push_back({line.partition, line.bytes.size() + 1, is_dead_letter});
  return Nothing{};
}

// Cuts the file back to its last commit; true if that worked.
bool FileSink::Cut(const Lines& lines) const {
  return ftruncate(lines.descriptor, static_cast<off_t>(lines.committed_bytes)) == 0;
}

// Writes all of what is pending, or nothing of it.
Result<Nothing> FileSink::Write(const Lines& lines) const {
  size_t written = 0;
  int error_number = 0;
  while (written < lines.pending.size() && error_number == 0) {
    const ssize_t size =
        write(lines.descriptor, lines.pending.data() + written, lines.pending.size() - written);
    if (size > 0) {
      written += static_cast<size_t>(size);
    } else if (size == 0 || errno != EINTR) {
      error_number = size == 0 ? ENOSPC : errno;
    }
  }
  if (error_number == 0 && options_.sync && fdatasync(lines.descriptor) != 0) error_number = errno;
  if (error_number == 0) return Nothing{};
  return Error{Code::kUnreadableFile,
               "cannot write " + lines.path + ": " + Reason(error_number) +
                   (Cut(lines) ? "" : ", and its last line may be cut short"),
               "the outcomes committed before stand; free space or mend the folder, then resume"};
}

void FileSink::MarkCommitted(Lines& lines) {
  lines.committed_bytes += lines.pending.size();
  lines.pending.clear();
}

Result<Nothing> FileSink::Commit() {
  // The copy is written first: if the outcomes then cannot be written, the copy is cut back.
  Result<Nothing> written = Write(dead_letters_);
  if (!written) return written;
  written = Write(outcomes_);
  if (!written) {
    Cut(dead_letters_);
    return written;
  }
  MarkCommitted(dead_letters_);
  MarkCommitted(outcomes_);
  committed_ = appended_;
  pending_.clear();
  return Nothing{};
}

void FileSink::Drop(int32_t partition) {
  std::string outcomes;
  std::string dead_letters;
  size_t position = 0;
  for (const Pending& line : pending_) {
    const std::string_view bytes = std::string_view(outcomes_.pending).substr(position, line.bytes);
    position += line.bytes;
    if (line.partition == partition) continue;
    outcomes.append(bytes);
    if (line.is_dead_letter) dead_letters.append(bytes);
  }
  std::erase_if(pending_, [&](const Pending& line) { return line.partition == partition; });
  outcomes_.pending = std::move(outcomes);
  dead_letters_.pending = std::move(dead_letters);
  appended_.erase(partition);
  const auto committed = committed_.find(partition);
  if (committed != committed_.end()) appended_[partition] = committed->second;
}

Result<std::optional<Tail>> FileSink::Last(int32_t partition) {
  const auto committed = committed_.find(partition);
  if (committed == committed_.end()) return std::optional<Tail>();
  return std::optional<Tail>(committed->second);
}

Result<Nothing> FileSink::ReadBack(int32_t partition, int64_t offset, const Visit& visit) {
  try {
    std::unique_ptr<Stopped> place = std::move(stopped_);
    if (!place || place->partition != partition || offset <= place->passed) {
      place.reset(new Stopped{LinesOf(outcomes_.path), partition, -1, {}});
    }
    const auto take = [&](int64_t, const std::string& line) -> Result<Nothing> {
      const std::optional<ErasedOutcome> erased = DecodeErased(line);
      if (erased && (erased->partition != partition || erased->offset < offset)) return Nothing{};
      const Result<RecordedOutcome> recorded = DecodeOutcome(line);
      if (!recorded) return recorded.error();
      if (recorded->partition != partition) return Nothing{};
      Result<Nothing> visited = recorded->offset < offset ? Nothing{} : visit(line);
      if (visited) {
        place->passed = recorded->offset;
      } else {
        place->line = line;
        stopped_ = std::move(place);
      }
      return visited;
    };
    if (const std::optional<std::string> line = std::exchange(place->line, std::nullopt)) {
      if (Result<Nothing> taken = take(0, *line); !taken) return taken;
    }
    return ForEachLine(place->source, take);
  } catch (const StartError& error) {
    return Error{Code::kUnreadableFile, error.what(), ""};
  }
}

}  // namespace nudge
