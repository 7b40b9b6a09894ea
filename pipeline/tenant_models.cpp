#include "pipeline/tenant_models.h"

#include <iterator>
#include <utility>

#include "stages/learner_rows.h"

namespace nudge {

TenantModels::TenantModels(Teacher& teacher, const TenantId& tenant, TenantAdaptersOptions options,
                           CheckpointFile& checkpoints)
    : id(tenant),
      teacher_(teacher),
      options_(options),
      checkpoint_room_(checkpoints, options.checkpoint_bytes),
      last_lesson_(std::make_shared<Later<LessonDone>>(LessonDone{})) {}

LaterPtr<Served> TenantModels::VersionOf(Version version) const {
  const auto found = versions_.find(version);
  // The lineage never asks for one that left the kept ones.
  return found != versions_.end() ? found->second : std::make_shared<Later<Served>>(Served{});
}

LaterPtr<GivenAnswer> TenantModels::AnswerOf(Sequence at) const {
  const auto found = answers_.find(at);
  if (found != answers_.end()) return found->second;
  return std::make_shared<Later<GivenAnswer>>(
      GivenAnswer{Error{Code::kModelFailed, "the answer is not kept any more", ""}, {}, {}});
}

LaterPtr<GivenAnswer> TenantModels::AddAnswer(Sequence at) {
  const auto answer = std::make_shared<Later<GivenAnswer>>();
  answers_[at] = answer;
  unsaved_answers_[at] = true;
  return answer;
}

void TenantModels::DropAnswer(Sequence at) {
  if (answers_.erase(at) == 0) return;
  const auto [entry, is_new] = unsaved_answers_.emplace(at, false);
  if (!is_new && entry->second) unsaved_answers_.erase(entry);  // it was never saved
}

void TenantModels::AddVersion(Version version, const LaterPtr<Served>& made) {
  versions_[version] = made;
  unsaved_versions_[version] = true;
}

void TenantModels::DropVersion(Version version) {
  if (versions_.erase(version) == 0) return;
  const auto [entry, is_new] = unsaved_versions_.emplace(version, false);
  if (!is_new && entry->second) unsaved_versions_.erase(entry);  // it was never saved
}

TenantAdapters& TenantModels::AdaptersOf(const LearnerId& learner) {
  return learners_.try_emplace(learner, teacher_, id, options_, checkpoint_room_).first->second;
}

void TenantModels::SaveLearners(Changes& changes) {
  for (auto entry = learners_.begin(); entry != learners_.end();) {
    const auto& [learner, adapters] = *entry;
    if (!adapters.has_changed()) {
      ++entry;
      continue;
    }
    const size_t first = changes.size();
    entry->second.Save(changes);
    NameLearner(learner, std::span(changes).subspan(first));
    entry = adapters.has_ended() ? learners_.erase(entry) : std::next(entry);
  }
}

bool TenantModels::NoteEnd(const LessonDone& done) {
  const LessonReport& report = done.report;
  const size_t end = done.error ? kLessonEnds.size() - 1 : static_cast<size_t>(report.verdict);
  const MutexLock lock(view_mutex_);
  ++view_.ended[end];
  view_.learnt_after_all += report.learnt_after_all ? 1 : 0;
  view_.refused_for_good += report.refused_for_good.size();
  if (!done.error && report.tokens > 0) {
    view_.nll_before = report.nll_before;
    view_.anchors_kl = report.kl;
    view_.canary_drop = report.canary_drop;
  }
  return std::exchange(last_end_, end) != end;
}

LessonsView TenantModels::lessons() const {
  const MutexLock lock(view_mutex_);
  return view_;
}

LaterPtr<LessonDone> TenantModels::Follow(const LaterPtr<LessonDone>& done) {
  return std::exchange(last_lesson_, done);
}

TenantModels::Unsaved TenantModels::TakeUnsaved() {
  Unsaved unsaved;
  for (const auto& [version, changed] : unsaved_versions_) {
    unsaved.versions[version] = changed ? versions_.at(version) : nullptr;
  }
  for (const auto& [at, changed] : unsaved_answers_) {
    unsaved.answers[at] = changed ? answers_.at(at) : nullptr;
  }
  unsaved.learner = std::exchange(learner_changed_, false);
  unsaved_versions_.clear();
  unsaved_answers_.clear();
  return unsaved;
}

void TenantModels::Restore(Version version, Served served) {
  versions_[version] = std::make_shared<Later<Served>>(std::move(served));
}

void TenantModels::Restore(Sequence at, GivenAnswer answer) {
  answers_[at] = std::make_shared<Later<GivenAnswer>>(std::move(answer));
}

}  // namespace nudge
