#include "stages/index_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(IndexOptions& options) {
  using enum Effect;
  return {
      {"index.passages", Number{&options.passages, 1, 64}, "", kSemantic,
       "found for a question, at most"},
      {"index.candidates", Number{&options.candidates, 1, 10'000}, "chunks", kSemantic,
       "the best by vectors and the best by words that are ranked together; index.passages or "
       "more"},
      {"index.dense_weight", Number{&options.dense_weight, 0, 1}, "", kSemantic,
       "of vectors against words: 1 is vectors only"},
      {"index.bm25_k1", Number{&options.bm25_k1, 0, 10}, "", kSemantic,
       "how much a word's repetition counts"},
      {"index.bm25_b", Number{&options.bm25_b, 0, 1}, "", kSemantic,
       "how much a passage's length counts against it"},
      {"limits.documents_per_tenant", Number{&options.documents_per_tenant, 1, 1e7}, "", kSemantic,
       "further ones are refused"},
      {"limits.chunks_per_tenant", Number{&options.chunks_per_tenant, 1, 1e8}, "", kSemantic,
       "of all documents; further documents are refused"},
      {"limits.deleted_documents_per_tenant", Number{&options.tombstones_per_tenant, 0, 1e7}, "",
       kSemantic, "whose version count is kept"},
  };
}

}  // namespace nudge
