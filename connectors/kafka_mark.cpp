#include "connectors/kafka_mark.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <charconv>

#include "connectors/codec.h"

namespace nudge::kafka {
namespace {

constexpr std::string_view kBegin = "nudge:";
constexpr size_t kChainDigits = 64;

}  // namespace

PartitionList ListOf(const std::string& topic, const Marks& marks) {
  PartitionList list(rd_kafka_topic_partition_list_new(static_cast<int>(marks.size())));
  for (const auto& [number, mark] : marks) {
    rd_kafka_topic_partition_t* const entry =
        rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), number);
    entry->offset = mark.position;
    ENSURE(entry->offset > 0);
    std::string metadata = std::string(kBegin) + mark.tail.chain;
    if (mark.position != mark.tail.offset + 1) metadata += ":" + std::to_string(mark.tail.offset);
    entry->metadata = rd_kafka_mem_malloc(nullptr, metadata.size());  // the list's to free
    entry->metadata_size = metadata.size();
    std::copy(metadata.begin(), metadata.end(), static_cast<char*>(entry->metadata));
  }
  return list;
}

std::optional<Mark> MarkOf(int64_t position, std::string_view metadata) {
  if (!metadata.starts_with(kBegin)) return std::nullopt;
  metadata.remove_prefix(kBegin.size());
  Mark mark{{position - 1, std::string(metadata.substr(0, kChainDigits))}, position};
  if (!IsSha256Hex(mark.tail.chain)) return std::nullopt;
  metadata.remove_prefix(kChainDigits);
  if (metadata.starts_with(':')) {
    const char* const end = metadata.data() + metadata.size();
    const auto [read, code] = std::from_chars(metadata.data() + 1, end, mark.tail.offset);
    if (code != std::errc() || read != end) return std::nullopt;
  } else if (!metadata.empty()) {
    return std::nullopt;
  }
  if (mark.tail.offset < 0 || mark.tail.offset >= position) return std::nullopt;
  return mark;
}

}  // namespace nudge::kafka
