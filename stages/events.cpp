#include "stages/events.h"

namespace nudge {

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
