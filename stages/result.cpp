#include "stages/result.h"

namespace nudge {

std::string_view Name(Code code) {
  switch (code) {
    case Code::kInvalidJson:
      return "invalid_json";
    case Code::kInvalidUtf8:
      return "invalid_utf8";
    case Code::kInvalidEvent:
      return "invalid_event";
    case Code::kUnknownType:
      return "unknown_type";
    case Code::kTooLarge:
      return "too_large";
    case Code::kUnknownQuery:
      return "unknown_query";
    case Code::kQueryTooOld:
      return "query_too_old";
    case Code::kUnknownPrompt:
      return "unknown_prompt";
    case Code::kTenantLimit:
      return "tenant_limit";
    case Code::kWrongAdapter:
      return "wrong_adapter";
    case Code::kUnreadableFile:
      return "unreadable_file";
    case Code::kModelFailed:
      return "model_failed";
    case Code::kUnsupportedModel:
      return "unsupported_model";
    case Code::kInternal:
      return "internal";
    case Code::kFenced:
      return "fenced";
    case Code::kNotOwner:
      return "not_owner";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kChangedEvent:
      return "changed_event";
    case Code::kBusy:
      return "busy";
    case Code::kForbidden:
      return "forbidden";
  }
  return "internal";
}

}  // namespace nudge
