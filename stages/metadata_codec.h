// Metadata as the index saves it. Pure functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "stages/metadata.h"
#include "stages/state.h"

namespace nudge {

inline void WriteMetadata(const Metadata& metadata, ByteWriter& writer) {
  writer.U64(metadata.size());
  for (const auto& [name, value] : metadata) {
    writer.Text(name);
    writer.U8(static_cast<uint8_t>(value.index()));
    if (const auto* text = std::get_if<std::string>(&value)) writer.Text(*text);
    if (const auto* number = std::get_if<double>(&value)) writer.F64(*number);
    if (const auto* flag = std::get_if<bool>(&value)) writer.U8(*flag);
    if (const auto* items = std::get_if<std::vector<std::string>>(&value)) {
      writer.U64(items->size());
      for (const std::string& item : *items) writer.Text(item);
    }
  }
}

inline Metadata ReadMetadata(ByteReader& reader) {
  Metadata metadata;
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    MetadataValue& value = metadata[reader.Text()];
    switch (reader.U8()) {
      case 0:
        value = reader.Text();
        break;
      case 1:
        value = reader.F64();
        break;
      case 2:
        value = reader.U8() != 0;
        break;
      default: {
        std::vector<std::string> items;
        for (uint64_t more = reader.U64(); more > 0 && !reader.failed(); --more) {
          items.push_back(reader.Text());
        }
        value = std::move(items);
      }
    }
  }
  return metadata;
}

}  // namespace nudge
