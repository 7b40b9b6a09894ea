#include "stages/receipts.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <variant>

namespace nudge {
namespace {

constexpr std::string_view kDuplicateOf = "duplicate of event ";

}  // namespace

std::string DuplicateReceipt(uint64_t first) {
  return std::string(kDuplicateOf) + std::to_string(first);
}

bool IsDuplicate(const Outcome& outcome) {
  const auto* applied = std::get_if<Applied>(&outcome.what);
  return applied != nullptr && applied->summary.starts_with(kDuplicateOf);
}

std::string Counted(uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string Named(Version version) {
  return version == 0 ? "the base model" : "version " + std::to_string(version);
}

std::string Listed(const std::vector<Version>& versions) {
  constexpr size_t kNamed = 20;
  std::string text;
  for (size_t i = 0; i < std::min(versions.size(), kNamed); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(versions[i]);
  }
  const size_t more = versions.size() - std::min(versions.size(), kNamed);
  if (more > 0) text += " and " + std::to_string(more) + " more";
  return text;
}

namespace {

// Whose an upserted document is; empty: everybody's.
std::string ForWhom(const std::optional<Groups>& access) {
  if (!access) return {};
  if (access->empty()) return ", for nobody: its access list is empty";
  return ", for " + Counted(access->size(), "group");
}

std::string SyncReceipt(const Resolved& resolved, const Found& found) {
  const auto& sync = std::get<SourceSync>(resolved.prepared->event.data);
  std::string text = "source " + sync.source + " holds " + Counted(resolved.synced, "document") +
                     ": " + Counted(resolved.removed.size(), "other") + " removed (" +
                     Counted(found.chunks_removed, "chunk") + ")";
  const size_t missing = sync.document_ids.size() - resolved.synced;
  if (missing > 0) text += "; of those it names " + std::to_string(missing) + " are not here";
  return text;
}

}  // namespace

std::string NothingToLearn(const Resolved& resolved) {
  const Event& event = resolved.prepared->event;
  const Feedback& feedback = std::get<Feedback>(event.data);
  if (feedback.takes_back && event.user.empty()) {
    return "nothing to take back: feedback without a user stands for itself";
  }
  if (feedback.takes_back) {
    return resolved.earlier.empty() ? "nothing to take back: user " + event.user +
                                          " has said nothing of this answer that is on record"
                                    : "nothing to take back: nothing is learnt of what user " +
                                          event.user + " said of this answer";
  }
  if (feedback.rating == 0.0) {  // who sends dislikes as 0 would never hear of it otherwise
    return "nothing to learn: rating 0 is neutral, a dislike is -1 or \"down\"";
  }
  return "nothing to learn: reward 0";
}

std::string Receipt(const Resolved& resolved, const Found& found, const Chosen& chosen) {
  const Event& event = resolved.prepared->event;
  const std::string prompt = "prompt " + chosen.prompt_id;
  const std::string prompt_version = ", version " + std::to_string(chosen.prompt_version);
  if (const auto* upsert = std::get_if<DocumentUpsert>(&event.data)) {
    std::string text = Counted(found.chunks_added, "chunk") + " indexed as version " +
                       std::to_string(found.document_version) + " of " + upsert->document_id +
                       ForWhom(upsert->access);
    if (found.chunks_removed > 0) text += " (" + std::to_string(found.chunks_removed) + " removed)";
    return text;
  }
  if (const auto* removal = std::get_if<DocumentDelete>(&event.data)) {
    if (found.document_version == 0) {
      return "nothing removed: there is no document " + removal->document_id;
    }
    return Counted(found.chunks_removed, "chunk") + " removed with version " +
           std::to_string(found.document_version) + " of " + removal->document_id;
  }
  if (std::holds_alternative<SourceSync>(event.data)) return SyncReceipt(resolved, found);
  if (std::holds_alternative<PromptUpsert>(event.data)) {
    return prompt + prompt_version + (chosen.note.empty() ? "" : ": " + chosen.note);
  }
  if (chosen.prompts_changed > 0) return prompt + " deleted" + prompt_version;
  return prompt + " not deleted: " + chosen.note;
}

}  // namespace nudge
