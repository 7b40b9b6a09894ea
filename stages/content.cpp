#include "stages/content.h"

#include "stages/decoding_codec.h"
#include "stages/hash.h"
#include "stages/state.h"

namespace nudge {
namespace {

// Writes every field; an optional one as whether it is there, then its value.
struct ContentWriter {
  ByteWriter& out;

  void Write(const std::string& text) const { out.Text(text); }
  void Write(double number) const { out.F64(number == 0 ? 0 : number); }  // -0 is 0
  void Write(uint32_t number) const { out.U32(number); }
  void Write(uint64_t number) const { out.U64(number); }
  void Write(bool flag) const { out.U8(flag); }
  void Write(const Decoding& decoding) const { WriteDecoding(out, decoding); }
  void Write(const ChatMessage& message) const {
    Write(message.role);
    Write(message.text);
  }
  void Write(const Feedback::Inline& answer) const {
    Write(answer.query);
    Write(answer.completion);
  }
  template <class T>
  void Write(const std::optional<T>& value) const {
    Write(value.has_value());
    if (value) Write(*value);
  }
  template <class... Values>
  void All(const Values&... values) const {
    (Write(values), ...);
  }

  void Write(const Groups& groups) const { out.Names(groups); }
  void Write(const Filter& filter) const { WriteFilter(filter, out); }

  // Texts stand first, as they did when there was nothing else.
  void operator()(const DocumentUpsert& document) const {
    uint64_t texts = 0;
    for (const auto& [name, value] : document.metadata) texts += value.index() == 0 ? 1 : 0;
    All(document.document_id, document.text, document.title, texts);
    for (const auto& [name, value] : document.metadata) {
      if (const auto* text = std::get_if<std::string>(&value)) All(name, *text);
    }
    const uint64_t others = document.metadata.size() - texts;
    if (others == 0 && !document.access) return;
    All(others);
    for (const auto& [name, value] : document.metadata) {
      if (value.index() != 0) WriteOther(name, value);
    }
    Write(document.access);
  }
  void WriteOther(const std::string& name, const MetadataValue& value) const {
    out.Text(name);
    out.U8(static_cast<uint8_t>(value.index()));
    if (const auto* number = std::get_if<double>(&value)) Write(*number);
    if (const auto* flag = std::get_if<bool>(&value)) Write(*flag);
    if (const auto* items = std::get_if<std::vector<std::string>>(&value)) {
      Write(uint64_t{items->size()});
      for (const std::string& item : *items) Write(item);
    }
  }
  void operator()(const DocumentDelete& document) const { Write(document.document_id); }
  void operator()(const Query& query) const {
    const QueryOptions& options = query.options;
    All(query.text, options.max_tokens, options.temperature, options.seed, options.prompt_id);
    const bool has_rights = !query.groups.empty() || query.filter;
    if (query.messages.empty() && query.conversation_id.empty() && !has_rights) return;
    All(query.conversation_id, uint64_t{query.messages.size()});
    for (const ChatMessage& message : query.messages) Write(message);
    if (has_rights) All(query.groups, query.filter);
  }
  void operator()(const Feedback& feedback) const {
    const Behaviour& seen = feedback.behaviour;
    All(feedback.query_id, feedback.query_source, feedback.inline_answer, feedback.rating,
        feedback.correction, seen.clicked, seen.copied, seen.regenerated, seen.dwell_ms);
    if (!feedback.comment.empty()) Write(feedback.comment);
    if (feedback.takes_back) Write(feedback.takes_back);
  }
  void operator()(const ExampleGiven& example) const { All(example.query, example.answer); }
  void operator()(const PromptUpsert& prompt) const {
    All(prompt.prompt_id, prompt.system, prompt.decoding);
  }
  void operator()(const PromptDelete& prompt) const { Write(prompt.prompt_id); }
  void operator()(const AdapterCommand& command) const {
    out.U8(static_cast<uint8_t>(command.action));
    All(command.version, command.uri, command.sha256);
    if (!command.user.empty()) Write(command.user);
  }
  void operator()(const Forget& forget) const {
    All(forget.user, forget.document_id);
    if (forget.documents) Write(forget.documents);
    if (!forget.event_id.empty()) All(forget.event_id, forget.event_source);
    if (!forget.conversation_id.empty()) Write(forget.conversation_id);
  }
  void operator()(const SourceSync& sync) const {
    Write(sync.source);
    out.Names(sync.document_ids);
  }
};

}  // namespace

uint64_t ContentOf(const Event& event) {
  ByteWriter out;
  std::visit(ContentWriter{out}, event.data);
  const uint64_t content = SeedOf({TypeName(event), event.user, out.Take()});
  return content == 0 ? 1 : content;
}

}  // namespace nudge
