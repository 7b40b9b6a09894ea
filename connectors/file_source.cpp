#include "connectors/file_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

#include "connectors/json_faults.h"
#include "stages/hash.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBlockBytes = 256 << 10;
// How often the end of a followed file is looked at again.
constexpr std::chrono::milliseconds kFollowPause{50};
constexpr char kGzipStart = '\x1f';  // no JSON begins with it

std::string Reason(int error_number) {
  return std::generic_category().message(error_number);
}

std::chrono::milliseconds Remaining(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return std::max(left, std::chrono::milliseconds(0));
}

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == line.npos;
}

}  // namespace

// ---- Bytes --------------------------------------------------------------------------------------

// The file's text in blocks, decompressed if need be.
class FileSource::Stream {
 public:
  enum class Fill { kMore, kNothing, kEnd };

  explicit Stream(const FileSourceOptions& options)
      : follow_(options.follow),
        name_(options.path == "-" ? "standard input" : options.path),
        named_gzip_(options.path.ends_with(".gz")) {
    fd_ =
        options.path == "-" ? dup(STDIN_FILENO) : open(options.path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd_ < 0 || fstat(fd_, &status) != 0) Refuse(Reason(errno));
    if (S_ISDIR(status.st_mode)) Refuse("it is a folder");
    if (follow_ && named_gzip_) Refuse("a compressed file cannot be followed");
    is_regular_ = S_ISREG(status.st_mode);
  }

  ~Stream() {
    if (fd_ >= 0) close(fd_);
    EndGzip();
  }

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  const std::string& name() const { return name_; }
  uint64_t bytes_read() const { return bytes_read_; }

  std::optional<uint64_t> bytes_total() const {
    struct stat status {};
    if (!is_regular_ || fstat(fd_, &status) != 0) return std::nullopt;
    return static_cast<uint64_t>(status.st_size);
  }

  // Puts the next bytes of text into `block`.
  Result<Fill> Read(std::string& block, Time deadline) {
    if (failed_) return *failed_;
    block.clear();
    if (is_gzip_) return Inflate(block, deadline);
    const bool is_first = bytes_read_ == 0;
    const Result<Fill> fill = ReadStored(block, deadline);
    if (!fill || *fill == Fill::kNothing || !is_first) return fill;
    if (!block.empty() && block.front() == kGzipStart) {
      stored_.swap(block);
      return StartGzip(block, deadline);
    }
    if (named_gzip_) return Fail("it is named .gz but holds no gzip data");
    return fill;
  }

  Result<Nothing> Rewind() {
    if (!is_regular_ || lseek(fd_, 0, SEEK_SET) != 0) {
      return Error{Code::kUnreadableFile, name_ + ": a pipe cannot be read again from its start",
                   "read from a file"};
    }
    EndGzip();
    bytes_read_ = 0;
    failed_.reset();
    return Nothing{};
  }

 private:
  [[noreturn]] void Refuse(const std::string& why) const {
    if (fd_ >= 0) close(fd_);
    throw StartError("cannot read events from " + name_ + ": " + why);
  }

  Error Fail(const std::string& why) {
    failed_ = Error{Code::kUnreadableFile, name_ + ": " + why,
                    "every whole line before this was read; repair the file to go on"};
    return *failed_;
  }

  // Reads what the file holds next, as it is.
  Result<Fill> ReadStored(std::string& bytes, Time deadline) {
    while (true) {
      if (!is_regular_) {
        pollfd waiting{fd_, POLLIN, 0};
        const int ready = poll(&waiting, 1, static_cast<int>(Remaining(deadline).count()));
        if (ready == 0 || (ready < 0 && errno == EINTR)) return Fill::kNothing;
        if (ready < 0) return Fail(Reason(errno));
      }
      bytes.resize(kBlockBytes);
      const ssize_t size = read(fd_, bytes.data(), bytes.size());
      const int error_number = errno;
      bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
      if (size > 0) {
        bytes_read_ += bytes.size();
        return Fill::kMore;
      }
      if (size < 0 && error_number == EINTR) return Fill::kNothing;
      if (size < 0 && error_number != EAGAIN) return Fail(Reason(error_number));
      if (size == 0 && !(follow_ && is_regular_)) return Fill::kEnd;
      if (size == 0 && *bytes_total() < bytes_read_)
        return Fail("it became shorter while followed");
      if (Remaining(deadline).count() == 0) return Fill::kNothing;
      if (size == 0) std::this_thread::sleep_for(std::min(kFollowPause, Remaining(deadline)));
    }
  }

  Result<Fill> StartGzip(std::string& block, Time deadline) {
    if (follow_) return Fail("a compressed file cannot be followed");
    constexpr int kGzipOnly = 16;
    zlib_ = {};
    ENSURE(inflateInit2(&zlib_, MAX_WBITS + kGzipOnly) == Z_OK);
    is_gzip_ = true;
    in_member_ = true;
    SetInput();
    return Inflate(block, deadline);
  }

  void EndGzip() {
    if (is_gzip_) inflateEnd(&zlib_);
    is_gzip_ = false;
  }

  void SetInput() {
    zlib_.next_in = reinterpret_cast<Bytef*>(stored_.data());
    zlib_.avail_in = static_cast<uInt>(stored_.size());
  }

  Result<Fill> Inflate(std::string& block, Time deadline) {
    while (true) {
      if (zlib_.avail_in == 0) {
        const Result<Fill> fill = ReadStored(stored_, deadline);
        if (!fill || *fill == Fill::kNothing) return fill;
        if (*fill == Fill::kEnd) {
          return in_member_ ? Fail("its gzip data is cut short") : Result<Fill>(Fill::kEnd);
        }
        SetInput();
      }
      if (!in_member_ && !StartMember()) continue;
      if (failed_) return *failed_;
      InflateSome(block);
      if (!block.empty()) return Fill::kMore;
      if (failed_) return *failed_;
    }
  }

  // After a member: another one, or zeros up to the end, as tapes have them.
  bool StartMember() {
    while (zlib_.avail_in > 0 && *zlib_.next_in == 0) {
      ++zlib_.next_in;
      --zlib_.avail_in;
    }
    if (zlib_.avail_in == 0) return false;
    if (*zlib_.next_in != static_cast<Bytef>(kGzipStart)) Fail("other bytes follow its gzip data");
    inflateReset(&zlib_);
    in_member_ = true;
    return true;
  }

  // Fills `block` with what comes before the next fault, which is kept for the next call.
  void InflateSome(std::string& block) {
    block.resize(kBlockBytes);
    zlib_.next_out = reinterpret_cast<Bytef*>(block.data());
    zlib_.avail_out = static_cast<uInt>(block.size());
    const int status = inflate(&zlib_, Z_NO_FLUSH);
    block.resize(block.size() - zlib_.avail_out);
    if (status == Z_STREAM_END) {
      in_member_ = false;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      Fail(std::string("its gzip data is damaged: ") +
           (zlib_.msg != nullptr ? zlib_.msg : zError(status)));
    }
  }

  const bool follow_;
  const std::string name_;
  const bool named_gzip_;
  int fd_ = -1;
  bool is_regular_ = false;
  uint64_t bytes_read_ = 0;
  std::optional<Error> failed_;

  bool is_gzip_ = false;
  bool in_member_ = false;
  z_stream zlib_{};
  std::string stored_;  // compressed bytes
};

// The part of a long line that is counted and hashed, not kept.
class FileSource::LongLine {
 public:
  void Add(std::string_view bytes) {
    total_ += bytes.size();
    hash_.Add(bytes.data(), bytes.size());
  }

  Refusal Finish(size_t limit_bytes) {
    return {{Code::kTooLarge,
             "line: " + std::to_string(total_) + " bytes are over the limit of " +
                 std::to_string(limit_bytes),
             "shorten it, or raise limits.line_bytes"},
            total_,
            Hex(hash_.Finish())};
  }

 private:
  Sha256Stream hash_;
  uint64_t total_ = 0;
};

// ---- Lines --------------------------------------------------------------------------------------

FileSource::FileSource(FileSourceOptions options)
    : options_(std::move(options)), stream_(std::make_unique<Stream>(options_)) {}

FileSource::~FileSource() = default;

uint64_t FileSource::bytes_read() const {
  return stream_->bytes_read();
}

std::optional<uint64_t> FileSource::bytes_total() const {
  return stream_->bytes_total();
}

Result<Source::Pull> FileSource::Next(Record& record, std::chrono::milliseconds timeout) {
  if (!assigned_ && listener_ != nullptr && !error_) {
    assigned_ = true;
    const int32_t partition = 0;
    const Result<Nothing> assigned = listener_->Assigned({&partition, 1});
    if (!assigned) error_ = assigned.error();
  }
  if (error_) return *error_;
  if (paused_) {
    std::this_thread::sleep_for(timeout);
    return Pull::kNothing;
  }
  Result<Pull> pull = PullLine(record, Clock::now() + timeout);
  if (!pull) error_ = pull.error();
  return pull;
}

Result<Source::Pull> FileSource::PullLine(Record& record, Time deadline) {
  while (true) {
    while (ReadLine()) {
      if (Deliver(record)) return Pull::kRecord;
    }
    if (ended_) {
      if (line_number_ < seek_to_) return TooFewLines();
      return Pull::kEnd;
    }
    position_ = 0;
    const Result<Stream::Fill> fill = stream_->Read(block_, deadline);
    if (!fill) return fill.error();
    if (*fill == Stream::Fill::kNothing) return Pull::kNothing;
    if (*fill == Stream::Fill::kMore) continue;
    ended_ = true;
    if ((!line_.empty() || long_line_) && Deliver(record)) return Pull::kRecord;
  }
}

// Moves text from the block to the line; true if that is its end.
bool FileSource::ReadLine() {
  const std::string_view rest = std::string_view(block_).substr(position_);
  const size_t size = rest.find('\n');
  Extend(rest.substr(0, size));
  if (size == rest.npos) {
    position_ = block_.size();
    return false;
  }
  position_ += size + 1;
  return true;
}

void FileSource::Extend(std::string_view piece) {
  // One byte more than the limit, since it may be the CR of a line end.
  if (!long_line_ && line_.size() + piece.size() > options_.line_bytes + 1) {
    long_line_ = std::make_unique<LongLine>();
    long_line_->Add(line_);
    line_.resize(std::min(line_.size(), options_.head_bytes));
  }
  if (!long_line_) {
    line_.append(piece);
    return;
  }
  long_line_->Add(piece);
  line_.append(piece.substr(0, options_.head_bytes - line_.size()));
}

// Ends the current line; true if it is a record.
bool FileSource::Deliver(Record& record) {
  if (!long_line_) {
    if (line_.ends_with('\r')) line_.pop_back();
    // Files that were put together have their marks in the middle.
    line_.erase(0, line_.size() - WithoutMarks(line_).size());
    if (line_.size() > options_.line_bytes) {
      long_line_ = std::make_unique<LongLine>();
      long_line_->Add(line_);
      line_.resize(std::min(line_.size(), options_.head_bytes));
    }
  }
  const bool is_record = line_number_ >= seek_to_ && (long_line_ || !IsBlank(line_));
  if (is_record) {
    record.partition = 0;
    record.offset = line_number_;
    record.key.clear();
    record.bytes.swap(line_);
    record.refusal.reset();
    if (long_line_) record.refusal = long_line_->Finish(options_.line_bytes);
  }
  line_.clear();
  long_line_.reset();
  ++line_number_;
  return is_record;
}

Error FileSource::TooFewLines() const {
  return {Code::kUnreadableFile,
          stream_->name() + ": has only " + std::to_string(line_number_) +
              " lines, but reading goes on at line " + std::to_string(seek_to_) +
              " (counted from 0)",
          "give the input that the output was made from, or start with an empty output and state"};
}

Result<Nothing> FileSource::Seek(int32_t partition, int64_t offset) {
  if (partition != 0 || offset < 0) {
    return Error{Code::kUnreadableFile,
                 stream_->name() + ": has no offset " + std::to_string(offset) + " in partition " +
                     std::to_string(partition),
                 "a file has one partition, 0"};
  }
  if (offset < line_number_) {
    Result<Nothing> rewound = stream_->Rewind();
    if (!rewound) return rewound;
    block_.clear();
    position_ = 0;
    line_.clear();
    long_line_.reset();
    line_number_ = 0;
    ended_ = false;
    error_.reset();
  }
  seek_to_ = offset;
  return Nothing{};
}

}  // namespace nudge
