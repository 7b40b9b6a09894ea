#include "connectors/erased_outcomes.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>

#include "connectors/bounded_call.h"
#include "stages/fault_point.h"

namespace nudge {
namespace {

constexpr std::string_view kOpens = R"({"erased":true,"partition":)";
constexpr std::string_view kOffset = R"(,"offset":")";
constexpr std::string_view kChain = R"(,"chain":")";
constexpr std::string_view kCloses = R"("})";
constexpr uint64_t kJournalBytes = 4 << 20;  // written down at a time
constexpr char kRemedyForDisk[] = "see whether the disk of output.folder is well";

std::string JournalOf(const std::string& folder) {
  return folder + "/outcomes.erasing";
}

// Takes `text` off the front, if it stands there.
bool Skip(std::string_view& rest, std::string_view text) {
  if (!rest.starts_with(text)) return false;
  rest.remove_prefix(text.size());
  return true;
}

template <class Number>
bool ReadNumber(std::string_view& rest, Number& number) {
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc()) return false;
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  return true;
}

Result<Nothing> WriteAt(const Descriptor& file, uint64_t position, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(*file, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return FileError(count == 0 ? ENOSPC : errno);
    position += static_cast<uint64_t>(count);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return Nothing{};
}

// Whether a line of this length ends there with the chain of `erased`. Of a half-written line it
// does, since old and new line have their chain at the same place.
bool StandsAt(std::ifstream& file, uint64_t position, const std::string& erased) {
  const std::string wanted = erased.substr(erased.rfind(kChain)) + "\n";
  std::string found(wanted.size(), '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(position + erased.size() + 1 - wanted.size()));
  return file.read(found.data(), static_cast<std::streamsize>(found.size())) && found == wanted;
}

Error NotErased(const std::string& path, const Error& error) {
  return {Code::kUnreadableFile, path + ": cannot be erased in: " + error.message,
          error.remedy.empty() ? "mend the disk of output.folder" : error.remedy};
}

}  // namespace

// ---- The line -----------------------------------------------------------------------------------

std::optional<ErasedOutcome> DecodeErased(std::string_view line) {
  ErasedOutcome erased{0, 0, std::string(ChainOf(line))};
  std::string_view rest = line;
  if (!Skip(rest, kOpens) || !ReadNumber(rest, erased.partition) || !Skip(rest, kOffset) ||
      !ReadNumber(rest, erased.offset) || !Skip(rest, "\"")) {
    return std::nullopt;
  }
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const bool is_whole = !erased.chain.empty() && erased.offset >= 0 && Skip(rest, kChain) &&
                        rest.size() == erased.chain.size() + kCloses.size();
  return is_whole ? std::optional(std::move(erased)) : std::nullopt;
}

std::string EncodeErased(const ErasedOutcome& erased, size_t bytes) {
  std::string line(kOpens);
  line.append(std::to_string(erased.partition)).append(kOffset);
  line.append(std::to_string(erased.offset)).append("\"");
  const std::string end = std::string(kChain) + erased.chain + std::string(kCloses);
  ENSURE(line.size() + end.size() <= bytes);  // an outcome's own attributes are longer
  line.resize(bytes - end.size(), ' ');
  return line + end;
}

Error ErasedAlready(const ErasedOutcome& erased) {
  return {Code::kUnreadableFile,
          "the outcome of offset " + std::to_string(erased.offset) +
              " was erased, since what its event said was forgotten",
          "what is before a forget cannot be repeated: bring back the state that was there, or "
          "begin with an empty log, output and state"};
}

// ---- The files ----------------------------------------------------------------------------------

OutcomeEraser::OutcomeEraser(const std::string& folder, std::chrono::milliseconds disk_timeout)
    : disk_timeout_(disk_timeout),
      outcomes_{folder + "/outcomes.jsonl", JournalOf(folder)},
      dead_letters_{folder + "/dead_letters.jsonl", ""} {}

Result<uint64_t> OutcomeEraser::EraseUntil(int64_t end, const Wanted& wanted) {
  const Result<uint64_t> erased = EraseIn(outcomes_, end, wanted);
  if (!erased.ok()) return erased;
  const Result<uint64_t> copies = EraseIn(dead_letters_, end, wanted);
  return copies.ok() ? erased : copies;
}

Result<uint64_t> OutcomeEraser::EraseIn(Lines& lines, int64_t end, const Wanted& wanted) const {
  std::ifstream file(lines.path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(lines.position));
  if (!file) return NotErased(lines.path, FileError(errno));
  std::vector<Placed> erased;
  uint64_t erased_bytes = 0;
  uint64_t count = 0;
  uint64_t position = lines.position;
  bool is_below = true;
  // A line without its end is being written: nothing of it is committed.
  for (std::string line; is_below && std::getline(file, line) && !file.eof();) {
    if (const std::optional<ErasedOutcome> already = DecodeErased(line)) {
      is_below = already->offset < end;
    } else {
      const Result<RecordedOutcome> outcome = DecodeOutcome(line);
      if (!outcome.ok()) return NotErased(lines.path, outcome.error());
      is_below = outcome->offset < end;
      const Result<bool> goes = is_below ? wanted(*outcome) : false;
      if (!goes.ok()) return goes.error();
      if (*goes && outcome->chain.empty()) {
        return NotErased(lines.path, {Code::kUnreadableFile, "a line has no chain", ""});
      }
      if (*goes) {
        const ErasedOutcome kept{outcome->partition, outcome->offset, outcome->chain};
        erased.emplace_back(position, EncodeErased(kept, line.size()));
        erased_bytes += line.size();
        ++count;
      }
    }
    if (is_below) position += line.size() + 1;
    if (erased_bytes < kJournalBytes) continue;
    if (Result<Nothing> written = Write(lines, erased); !written.ok()) return written.error();
    erased.clear();
    erased_bytes = 0;
  }
  if (Result<Nothing> written = Write(lines, erased); !written.ok()) return written.error();
  lines.position = position;
  return count;
}

Result<Nothing> OutcomeEraser::Write(const Lines& lines, const std::vector<Placed>& erased) const {
  if (erased.empty()) return Nothing{};
  const BoundedCall call("fdatasync", disk_timeout_, kRemedyForDisk);
  if (!lines.journal.empty()) {
    std::string journal;
    for (const auto& [position, line] : erased) {
      journal.append(std::to_string(position)).append(" ").append(line).append("\n");
    }
    if (Result<Nothing> noted = ReplaceFile(lines.journal, journal); !noted.ok()) {
      return NotErased(lines.path, noted.error());
    }
  }
  const Result<Descriptor> file = OpenFile(lines.path, O_WRONLY);
  if (!file.ok()) return NotErased(lines.path, file.error());
  for (const auto& [position, line] : erased) {
    FaultPoint("erase-outcomes");
    if (Result<Nothing> written = WriteAt(*file, position, line); !written.ok()) {
      return NotErased(lines.path, written.error());
    }
  }
  if (fdatasync(**file) != 0) return NotErased(lines.path, FileError(errno));
  if (!lines.journal.empty() && unlink(lines.journal.c_str()) != 0) {
    return NotErased(lines.path, FileError(errno));
  }
  return Nothing{};
}

Result<Nothing> FinishErasing(const std::string& folder) {
  const std::string journal = JournalOf(folder);
  const std::string path = folder + "/outcomes.jsonl";
  const Result<std::string> noted = ReadFile(journal, 4 * kJournalBytes);
  if (!noted.ok()) {
    if (access(journal.c_str(), F_OK) != 0) return Nothing{};
    return NotErased(path, {Code::kUnreadableFile, journal + ": " + noted.error().message, ""});
  }
  const Result<Descriptor> file = OpenFile(path, O_WRONLY);
  if (!file.ok()) return NotErased(path, file.error());
  std::ifstream before(path, std::ios::binary);
  std::istringstream lines(*noted);
  for (std::string line; std::getline(lines, line);) {
    std::string_view rest = line;
    uint64_t position = 0;
    const bool is_read = ReadNumber(rest, position) && Skip(rest, " ") && DecodeErased(rest);
    // Those of another file, which was put here since, are left alone.
    if (!is_read || !StandsAt(before, position, std::string(rest))) continue;
    if (Result<Nothing> written = WriteAt(*file, position, rest); !written.ok()) {
      return NotErased(path, written.error());
    }
  }
  if (fdatasync(**file) != 0 || unlink(journal.c_str()) != 0) {
    return NotErased(path, FileError(errno));
  }
  return Nothing{};
}

}  // namespace nudge
