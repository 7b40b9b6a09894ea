#include "connectors/memory.h"

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "connectors/codec.h"

namespace nudge {
namespace {

const OutcomeLine* LastOf(int32_t partition, const std::vector<OutcomeLine>& lines) {
  const auto found = std::find_if(lines.rbegin(), lines.rend(), [&](const OutcomeLine& line) {
    return line.partition == partition;
  });
  return found == lines.rend() ? nullptr : &*found;
}

}  // namespace

MemorySource::MemorySource(std::vector<std::string> lines) : lines_(std::move(lines)) {}

Result<Source::Pull> MemorySource::Next(Record& record, std::chrono::milliseconds timeout) {
  if (!assigned_ && listener_ != nullptr) {
    const int32_t partition = 0;
    const Result<Nothing> assigned = listener_->Assigned({&partition, 1});
    if (!assigned) return assigned.error();
  }
  assigned_ = true;
  if (paused_) {
    std::this_thread::sleep_for(timeout);
    return Pull::kNothing;
  }
  if (next_ >= lines_.size()) return Pull::kEnd;
  record.partition = 0;
  record.offset = static_cast<int64_t>(next_);
  record.key.clear();
  record.bytes = lines_[next_++];
  record.refusal.reset();
  return Pull::kRecord;
}

Result<Nothing> MemorySource::Seek(int32_t partition, int64_t offset) {
  if (partition != 0 || offset < 0 || static_cast<size_t>(offset) > lines_.size()) {
    return Error{Code::kUnreadableFile,
                 "memory has " + std::to_string(lines_.size()) +
                     " lines in partition 0, not line " + std::to_string(offset) +
                     " of partition " + std::to_string(partition),
                 "give the input that the output was made from"};
  }
  next_ = static_cast<size_t>(offset);
  return Nothing{};
}

Result<Nothing> MemorySink::Append(const OutcomeLine& line) {
  const OutcomeLine* last = LastOf(line.partition, pending_);
  if (last == nullptr) last = LastOf(line.partition, lines_);
  if (last != nullptr && line.offset <= last->offset) {
    return Error{Code::kInternal,
                 "outcome of offset " + std::to_string(line.offset) + " after that of offset " +
                     std::to_string(last->offset),
                 ""};
  }
  pending_.push_back(line);
  return Nothing{};
}

Result<Nothing> MemorySink::Commit() {
  std::move(pending_.begin(), pending_.end(), std::back_inserter(lines_));
  pending_.clear();
  ++commits_;
  return Nothing{};
}

void MemorySink::Drop(int32_t partition) {
  std::erase_if(pending_, [&](const OutcomeLine& line) { return line.partition == partition; });
}

Result<std::optional<Tail>> MemorySink::Last(int32_t partition) {
  const OutcomeLine* const last = LastOf(partition, lines_);
  if (last == nullptr) return std::optional<Tail>();
  return std::optional<Tail>({last->offset, std::string(ChainOf(last->bytes))});
}

Result<Nothing> MemorySink::ReadBack(int32_t partition, int64_t offset, const Visit& visit) {
  for (const OutcomeLine& line : lines_) {
    if (line.partition != partition || line.offset < offset) continue;
    Result<Nothing> visited = visit(line.bytes);
    if (!visited) return visited;
  }
  return Nothing{};
}

}  // namespace nudge
