#include "stages/events.h"

#include "stages/hash.h"

namespace nudge {

EventName NameOf(const std::string& source, const std::string& id) {
  return SeedOf({source, id});
}

std::vector<EventName> Forget::Events() const {
  return event_id.empty() ? questions : std::vector<EventName>{NameOf(event_source, event_id)};
}

std::set<EventName> EventsBehind(const Event& event) {
  std::set<EventName> events = {NameOf(event.source, event.id)};
  const auto* feedback = std::get_if<Feedback>(&event.data);
  if (feedback != nullptr && !feedback->query_id.empty()) {
    const bool own = feedback->query_source.empty();
    events.insert(NameOf(own ? event.source : feedback->query_source, feedback->query_id));
  }
  return events;
}

RestsOn RestOf(std::span<const Passage> passages) {
  RestsOn rests_on;
  for (const Passage& passage : passages) {
    rests_on.documents.insert(passage.document_id);
    for (const Passage::Copy& copy : passage.copies) rests_on.documents.insert(copy.document_id);
    rests_on.lists.insert(passage.access.begin(), passage.access.end());
  }
  return rests_on;
}

std::string_view TypeName(const Event& event) {
  struct Visitor {
    std::string_view operator()(const DocumentUpsert&) { return "nudge.document.upsert"; }
    std::string_view operator()(const DocumentDelete&) { return "nudge.document.delete"; }
    std::string_view operator()(const Query&) { return "nudge.query"; }
    std::string_view operator()(const Feedback&) { return "nudge.feedback"; }
    std::string_view operator()(const ExampleGiven&) { return "nudge.example"; }
    std::string_view operator()(const PromptUpsert&) { return "nudge.prompt.upsert"; }
    std::string_view operator()(const PromptDelete&) { return "nudge.prompt.delete"; }
    std::string_view operator()(const AdapterCommand&) { return "nudge.adapter"; }
    std::string_view operator()(const Forget&) { return "nudge.forget"; }
    std::string_view operator()(const SourceSync&) { return "nudge.source.sync"; }
  };
  return std::visit(Visitor{}, event.data);
}

bool IsCommand(const Event& event) {
  struct Visitor {
    bool operator()(const DocumentUpsert&) { return false; }
    bool operator()(const DocumentDelete&) { return false; }
    bool operator()(const Query&) { return false; }
    bool operator()(const Feedback&) { return false; }
    bool operator()(const ExampleGiven&) { return false; }
    bool operator()(const PromptUpsert&) { return true; }
    bool operator()(const PromptDelete&) { return true; }
    bool operator()(const AdapterCommand&) { return true; }
    bool operator()(const Forget&) { return true; }
    bool operator()(const SourceSync&) { return false; }
  };
  return std::visit(Visitor{}, event.data);
}

std::string_view Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kWindow:
      return "window";
    case FinishReason::kUnknown:
      break;
  }
  return "";
}

}  // namespace nudge
