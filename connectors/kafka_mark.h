// What a commit of the group says of an input partition, as it lies with the brokers.
//
//   Mark -> [ListOf] -> an offset and its metadata -> [MarkOf] -> Mark
//
// The metadata is "nudge:<chain>", and ":<offset>" of the last event behind it if that is not the
// one before the group's offset. Private to connectors/kafka*.cpp.
#pragma once

#include "connectors/kafka_shared.h"

namespace nudge::kafka {

struct Mark {
  Tail tail;
  int64_t position = 0;  // after the event, and after what follows it and is none
};
using Marks = std::map<int32_t, Mark>;  // by partition

PartitionList ListOf(const std::string& topic, const Marks& marks);

// Nothing: nudge did not commit it.
std::optional<Mark> MarkOf(int64_t position, std::string_view metadata);

}  // namespace nudge::kafka
