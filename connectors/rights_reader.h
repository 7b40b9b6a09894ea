// The parts of an event that say what a document is and who may see it, as JSON: metadata, lists of
// groups, filters. docs/EVENTS.md describes them.
//
//   JSON -> [ReadMetadata, ReadGroups, ReadFilter] -> value -> [Write...] -> JSON
//
// What is wrong is the reader's to tell, by its path. Pure, any thread.
#pragma once

#include "connectors/event_limits.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "stages/access.h"
#include "stages/filter.h"
#include "stages/metadata.h"

namespace nudge {

// An entry of null is left out. Over the limits of metadata: kTooLarge.
void ReadMetadata(JsonReader& json, const Place& place, const EventLimits& limits,
                  Metadata& metadata);
void WriteMetadata(const Metadata& metadata, JsonWriter& json);

// A list of names; one that is given twice counts once.
void ReadGroups(JsonReader& json, const Place& place, const EventLimits& limits, Groups& groups);
void WriteGroups(const Groups& groups, JsonWriter& json);

// One condition: {"field", and one of eq, in, gt, gte, lt, lte}, {"and": [...]}, {"or": [...]} or
// {"not": {...}}. Over the limits of filters: kTooLarge.
void ReadFilter(JsonReader& json, const Place& place, const EventLimits& limits, Filter& filter);
void WriteFilter(const Filter& filter, JsonWriter& json);

}  // namespace nudge
