#include "pipeline/serve/forgotten.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "connectors/json_reader.h"

namespace nudge {
namespace {

constexpr std::string_view kUpsert = "nudge.document.upsert";
constexpr std::string_view kCommands[] = {"nudge.document.delete", "nudge.source.sync",
                                          "nudge.prompt.upsert",   "nudge.prompt.delete",
                                          "nudge.adapter",         "nudge.forget"};

}  // namespace

bool Forgotten::Add(int64_t offset, std::string_view record) {
  const Result<Event> event = DecodeEvent(record, limits_);
  const auto* forget = event.ok() ? std::get_if<Forget>(&event->data) : nullptr;
  if (forget == nullptr) return false;
  One one{offset, event->tenant, *forget, 0, {}, {}};
  if (!forget->event_id.empty()) {
    const bool own = forget->event_source.empty();
    one.event = NameOf(own ? event->source : forget->event_source, forget->event_id);
  }
  if (!forget->document_id.empty()) one.documents.insert(forget->document_id);
  forgets_.push_back(std::move(one));
  return true;
}

Forgotten::Kind Forgotten::KindOf(std::string_view type) {
  if (type == kUpsert) return Kind::kDocument;
  const bool is_command = std::ranges::find(kCommands, type) != std::end(kCommands);
  // Of a type that nudge does not know, too: whatever it is, its user said it.
  return is_command ? Kind::kCommand : Kind::kWords;
}

Forgotten::Subject Forgotten::SubjectOf(std::string_view record) const {
  Subject subject;
  const Result<Event> event = DecodeEvent(record, limits_);
  if (!event.ok()) {
    static constexpr std::string_view kUser[] = {"user"};
    const EventHead head = PeekHead(record, limits_);
    subject.tenant = head.tenant;
    subject.user = PeekStrings(record, kUser).front().value_or("");
    subject.event = NameOf(head.source, head.id);
    subject.kind = KindOf(head.type);
    return subject;
  }
  subject.tenant = event->tenant;
  subject.user = event->user;
  subject.event = NameOf(event->source, event->id);
  subject.kind = KindOf(TypeName(*event));
  if (const auto* upsert = std::get_if<DocumentUpsert>(&event->data)) {
    subject.document_id = upsert->document_id;
  } else if (const auto* feedback = std::get_if<Feedback>(&event->data)) {
    const bool own = feedback->query_source.empty();
    const std::string& source = own ? event->source : feedback->query_source;
    if (!feedback->query_id.empty()) subject.about = NameOf(source, feedback->query_id);
  } else if (const auto* query = std::get_if<Query>(&event->data)) {
    subject.is_question = true;
    subject.conversation_id = query->conversation_id;
  }
  return subject;
}

bool Forgotten::IsTheirs(const One& one, const Subject& subject) {
  return !one.forget.user.empty() && subject.user == one.forget.user;
}

bool Forgotten::IsOfConversation(const One& one, const Subject& subject) {
  return !one.forget.conversation_id.empty() &&
         subject.conversation_id == one.forget.conversation_id;
}

void Forgotten::See(int64_t offset, std::string_view record) {
  const Subject subject = SubjectOf(record);
  for (One& one : forgets_) {
    if (offset >= one.offset || subject.tenant != one.tenant) continue;
    if (IsOfConversation(one, subject)) one.questions.insert(subject.event);
    if (!IsTheirs(one, subject)) continue;
    if (subject.is_question) one.questions.insert(subject.event);
    if (one.forget.documents && !subject.document_id.empty()) {
      one.documents.insert(subject.document_id);
    }
  }
}

bool Forgotten::Concerns(int64_t offset, std::string_view record) const {
  const Subject subject = SubjectOf(record);
  return std::any_of(forgets_.begin(), forgets_.end(), [&](const One& one) {
    if (offset >= one.offset || subject.tenant != one.tenant) return false;
    if (subject.kind == Kind::kCommand) return false;
    if (subject.kind == Kind::kDocument) {
      return IsTheirs(one, subject)
                 ? one.forget.documents
                 : subject.document_id == one.forget.document_id && !subject.document_id.empty();
    }
    if (IsTheirs(one, subject) || IsOfConversation(one, subject)) return true;
    if (one.event != 0 && (subject.event == one.event || subject.about == one.event)) return true;
    return subject.about != 0 && one.questions.contains(subject.about);
  });
}

bool Forgotten::Concerns(const RecordedOutcome& recorded) const {
  const Outcome& outcome = recorded.outcome;
  const EventName event = NameOf(outcome.source, outcome.id);
  const auto* response = std::get_if<Response>(&outcome.what);
  return std::any_of(forgets_.begin(), forgets_.end(), [&](const One& one) {
    if (recorded.offset >= one.offset || outcome.tenant != one.tenant) return false;
    if (one.event == event && KindOf(outcome.type) == Kind::kWords) return true;
    return response != nullptr &&
           std::any_of(
               response->citations.begin(), response->citations.end(),
               [&](const Citation& cited) { return one.documents.contains(cited.document_id); });
  });
}

}  // namespace nudge
