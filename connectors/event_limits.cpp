#include "connectors/event_limits.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(EventLimits& options) {
  using enum Effect;
  return {
      {"limits.line_bytes", Number{&options.line_bytes, 256, 64 << 20}, "", kSemantic,
       "of an event as received"},
      {"limits.text_bytes", Number{&options.text_bytes, 1, 16 << 20}, "", kSemantic,
       "of a document"},
      {"limits.query_bytes", Number{&options.query_bytes, 1, 1 << 20}, "", kSemantic,
       "of a question"},
      {"limits.messages", Number{&options.messages, 0, 4096}, "messages", kSemantic,
       "before a question, in one conversation"},
      {"limits.messages_bytes", Number{&options.messages_bytes, 0, 1 << 20}, "", kSemantic,
       "of the messages before a question, contents together"},
      {"limits.answer_bytes", Number{&options.answer_bytes, 1, 1 << 20}, "", kSemantic,
       "of an answer or correction in an event"},
      {"limits.prompt_bytes", Number{&options.prompt_bytes, 1, 1 << 20}, "", kSemantic,
       "of a system prompt in an event"},
      {"limits.comment_bytes", Number{&options.comment_bytes, 1, 1 << 20}, "", kSemantic,
       "of a comment in feedback"},
      {"limits.id_bytes", Number{&options.id_bytes, 1, 4096}, "", kSemantic,
       "of an id, source, user or name in an event"},
      {"limits.tenant_bytes", Number{&options.tenant_bytes, 1, 1024}, "", kSemantic,
       "of a tenant's name"},
      {"limits.title_bytes", Number{&options.title_bytes, 1, 64 << 10}, "", kSemantic,
       "of a document's title"},
      {"limits.uri_bytes", Number{&options.uri_bytes, 1, 64 << 10}, "", kSemantic,
       "of an adapter's path in an import"},
      {"limits.metadata_entries", Number{&options.metadata_entries, 0, 4096}, "entries", kSemantic,
       "of a document, items of lists counted"},
      {"limits.metadata_bytes", Number{&options.metadata_bytes, 0, 1 << 20}, "", kSemantic,
       "of a document's metadata, keys and values together"},
      {"limits.groups", Number{&options.groups, 0, 4096}, "groups", kSemantic,
       "of a document's access list, and of who asks"},
      {"limits.sync_documents", Number{&options.sync_documents, 0, 1e6}, "documents", kSemantic,
       "that a source names in a sync"},
      {"limits.filter_depth", Number{&options.filter_depth, 1, 256}, "levels", kSemantic,
       "of conditions inside each other in a question's filter"},
      {"limits.filter_terms", Number{&options.filter_terms, 1, 65536}, "terms", kSemantic,
       "fields, values and conditions of a question's filter"},
      {"limits.filter_bytes", Number{&options.filter_bytes, 1, 1 << 20}, "", kSemantic,
       "of a question's filter, fields and values together"},
      {"limits.json_depth", Number{&options.json_depth, 3, 1024}, "levels", kSemantic,
       "of objects and lists inside each other in an event"},
  };
}

}  // namespace nudge
