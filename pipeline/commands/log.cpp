// `nudge log`: the events of an embedded log as lines, for `nudge replay` and for people.
#include <fcntl.h>
#include <unistd.h>

#include <iostream>

#include "connectors/log/embedded_log.h"
#include "pipeline/commands/commands.h"
#include "stages/files.h"

namespace nudge {
namespace {

constexpr size_t kBlockBytes = 1 << 20;

// Lines into a file or standard output, in large writes.
class LineWriter {
 public:
  LineWriter(std::string name, Descriptor file) : name_(std::move(name)), file_(std::move(file)) {}

  Result<Nothing> Write(std::string_view line) {
    block_.append(line).push_back('\n');
    return block_.size() < kBlockBytes ? Nothing{} : Flush();
  }

  Result<Nothing> Flush() {
    Result<Nothing> written = WriteAll(file_, block_);
    block_.clear();
    if (written.ok()) return written;
    return Error{Code::kUnreadableFile, name_ + ": cannot be written: " + written.error().message,
                 written.error().remedy};
  }

 private:
  const std::string name_;
  const Descriptor file_;
  std::string block_;
};

}  // namespace

// The number of a line is the offset of its event, as `nudge replay` counts: where events went by
// retention or were erased blank lines stand for them.
int DumpLog(const LogArguments& arguments) {
  const Config config = ReadConfig(arguments.config_path);
  const std::string& folder = config.event_log.folder;
  if (folder.empty()) throw StartError("event_log.folder: missing: there is no log to read");
  const bool is_standard = arguments.out == "-";
  Result<Descriptor> file = is_standard ? Result<Descriptor>(Descriptor(dup(STDOUT_FILENO)))
                                        : OpenFile(arguments.out, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.ok()) throw StartError(arguments.out + ": cannot be written: " + file.error().message);
  LineWriter lines(is_standard ? "standard output" : arguments.out, std::move(*file));
  const std::map<int64_t, std::string> segments = SegmentsIn(folder);
  const int64_t first = segments.empty() ? 0 : segments.begin()->first;
  if (first > 0) {
    std::cerr << "nudge: the log begins at offset " << first
              << ": what was before went by retention, and blank lines stand for it. A replay "
                 "needs a state from there or later\n";
  }
  Result<Nothing> done = Nothing{};
  for (int64_t offset = 0; offset < first && done.ok(); ++offset) done = lines.Write("");
  if (done.ok()) {
    done = ReadEventLog(folder, first, [&](const Frame& frame) {
      return stop_requested ? Result<Nothing>(Error{Code::kUnavailable, "interrupted", ""})
                            : lines.Write(frame.kind == FrameKind::kErased ? "" : frame.bytes);
    });
  }
  const Result<Nothing> flushed = lines.Flush();
  if (stop_requested) return kExitInterrupted;
  if (!done.ok()) return FailWith(done.error(), kExitFailed);
  return flushed.ok() ? kExitDone : FailWith(flushed.error(), kExitFailed);
}

}  // namespace nudge
