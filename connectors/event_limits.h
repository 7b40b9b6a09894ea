// How large an event may be: see DecodeEvent in codec.h.
#pragma once

#include <cstddef>

#include "stages/options.h"

namespace nudge {

// What an event may weigh at most. Sizes are of the decoded UTF-8.
struct EventLimits {
  size_t line_bytes = 1 << 20;
  size_t text_bytes = 256 << 10;      // of a document
  size_t query_bytes = 8 << 10;       // of a question, given or inline
  size_t messages = 256;              // of the earlier turns of a question
  size_t messages_bytes = 128 << 10;  // of their contents together
  size_t answer_bytes = 32 << 10;     // of an example's answer, a completion, a correction
  size_t prompt_bytes = 16 << 10;     // of a system prompt
  size_t comment_bytes = 4 << 10;     // of a comment on an answer
  size_t id_bytes = 256;              // of id, source, user, document_id, prompt_id, query_id
  size_t tenant_bytes = 128;
  size_t title_bytes = 1 << 10;
  size_t uri_bytes = 1 << 10;       // of an import
  size_t metadata_entries = 64;     // items of lists counted
  size_t metadata_bytes = 8 << 10;  // keys and values together
  size_t groups = 64;               // of an access list, of who asks
  size_t sync_documents = 10'000;   // named by a sync of their source
  size_t filter_depth = 6;          // conditions inside each other
  size_t filter_terms = 256;        // fields, values and conditions of a filter
  size_t filter_bytes = 8 << 10;    // of its fields and values together
  size_t json_depth = 16;           // filled objects and arrays inside each other; 3..1024
};

keys::Fields OptionsOf(EventLimits& options);

}  // namespace nudge
