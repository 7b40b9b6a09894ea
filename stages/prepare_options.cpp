#include "stages/prepare_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(PrepareOptions& options) {
  using enum Effect;
  return {
      {"prepare.chunk_chars", Number{&options.chunk_chars, 64, 100'000}, "", kSemantic,
       "of a passage, at most; fewer where an embedder could not read them"},
      {"prepare.overlap_sentence", Flag{&options.overlap_sentence}, "", kSemantic,
       "a passage begins with the last sentence of the one before"},
      {"prepare.chunks_per_document", Number{&options.chunks_per_document, 1, 1e6}, "", kSemantic,
       "a document with more is refused"},
      {"prepare.title_chars", Number{&options.title_chars, 1, 65536}, "", kSemantic,
       "of a document's title, cleaned"},
      {"prepare.query_chars", Number{&options.query_chars, 1, 1 << 20}, "", kSemantic,
       "of a question, cleaned"},
      {"prepare.answer_chars", Number{&options.answer_chars, 1, 1 << 20}, "", kSemantic,
       "of an answer, correction, system prompt or earlier turn in an event, cleaned"},
  };
}

}  // namespace nudge
