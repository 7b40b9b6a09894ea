// How texts are cut and checked: see prepare.h.
#pragma once

#include <cstdint>

#include "stages/options.h"

namespace nudge {

struct PrepareOptions {
  uint32_t chunk_chars = 600;     // 64..100000; see Prepare::Apply
  bool overlap_sentence = false;  // a chunk begins with the last sentence of the one before
  uint32_t chunks_per_document = 256;
  uint32_t title_chars = 512;
  uint32_t query_chars = 4096;    // of a query, and of the query in feedback and examples
  uint32_t answer_chars = 32768;  // of a completion, correction, system prompt, earlier turn ...
  uint32_t dimension = 0;         // of the embedder's vectors; 0: no embedder
};

keys::Fields OptionsOf(PrepareOptions& options);

}  // namespace nudge
