// Which bytes of a file a request wants (RFC 9110, 13 and 14): HttpRequest -> [RangeOf] ->
// FileRange.
//
// The entity tag is a strong one. Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "connectors/http/exchange.h"

namespace nudge {

struct FileRange {
  // 200: all of it; 206: [begin, end); 304: the client has it; 416: none of it
  unsigned status = 200;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Several ranges in one request, other units and what is none are answered by the whole file.
// `entity_tag` with its quotation marks.
FileRange RangeOf(const HttpRequest& request, std::string_view entity_tag, uint64_t size_bytes);

}  // namespace nudge
