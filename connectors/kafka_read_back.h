// Outcomes back from their topics, merged into the order of the log. Private to
// connectors/kafka*.cpp.
#pragma once

#include "connectors/kafka_shared.h"

namespace nudge::kafka {

// KafkaSink::ReadBack, up to and including `tail`.
Result<Nothing> ReadOutcomes(KafkaClient::Shared& shared, int32_t partition, int64_t offset,
                             const Tail& tail, Clock::time_point deadline,
                             const Sink::Visit& visit);

}  // namespace nudge::kafka
