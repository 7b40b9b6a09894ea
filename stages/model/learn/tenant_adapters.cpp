#include "stages/model/learn/tenant_adapters.h"

#include <algorithm>
#include <utility>

#include "stages/learner_rows.h"

namespace nudge {
namespace {

// 4 knew no loss behind a step, 3 no verdicts, 2 kept no teacher, no comment and no result, 1 no
// places.
constexpr uint8_t kFormat = 5;

std::string EncodeVersion(const std::shared_ptr<const AdapterVersion>& version) {
  ByteWriter out;
  out.U8(kFormat);
  out.Text(version->digest);
  out.Text(version->parent_digest);
  out.Text(version->weights);
  return out.Take();
}

std::string EncodeLesson(const KeptLesson& lesson) {
  const TextExample& example = lesson.example;
  ByteWriter out;
  out.U8(kFormat);
  out.U64(example.chat.size());
  for (const ChatMessage& message : example.chat) {
    out.Text(message.role);
    out.Text(message.text);
  }
  out.Text(example.shown);
  out.U8(example.correction.has_value());
  if (example.correction) out.Text(*example.correction);
  out.F64(example.reward);
  out.Text(example.teacher);
  out.Text(example.source);
  out.Text(lesson.comment);
  out.U64(example.question_bytes);
  out.U8(example.own_answer);
  return out.Take();
}

KeptLesson DecodeLesson(ByteReader& in) {
  KeptLesson lesson;
  TextExample& example = lesson.example;
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    std::string role = in.Text();
    example.chat.push_back({std::move(role), in.Text()});
  }
  example.shown = in.Text();
  if (in.U8() != 0) example.correction = in.Text();
  example.reward = in.F64();
  example.teacher = in.Text();
  example.source = in.Text();
  lesson.comment = in.Text();
  example.question_bytes = in.U64();
  example.own_answer = in.U8() != 0;
  return lesson;
}

std::string EncodeResult(const LessonResult& result) {
  const LessonReport& report = result.report;
  ByteWriter out;
  out.U8(kFormat);
  out.U8(report.accepted);
  for (const double value : {report.nll_before, report.loss, report.kl, report.gradient_norm}) {
    out.F64(value);
  }
  out.U8(report.nll_after.has_value());
  out.F64(report.nll_after.value_or(0));
  out.U32(report.tokens);
  out.U8(static_cast<uint8_t>(report.verdict));
  out.U8(report.evidence.has_value());
  out.F64(report.evidence.value_or(0));
  out.F64(report.canary_drop);
  out.U8(result.is_final);
  out.U8(result.is_told);
  out.Text(result.error);
  return out.Take();
}

LessonResult DecodeResult(ByteReader& in) {
  LessonResult result;
  LessonReport& report = result.report;
  report.accepted = in.U8() != 0;
  for (double* value : {&report.nll_before, &report.loss, &report.kl, &report.gradient_norm}) {
    *value = in.F64();
  }
  const bool has_after = in.U8() != 0;
  const double after = in.F64();
  if (has_after) report.nll_after = after;
  report.tokens = in.U32();
  report.verdict = static_cast<LessonVerdict>(std::min<uint8_t>(in.U8(), 4));
  const bool has_evidence = in.U8() != 0;
  const double evidence = in.F64();
  if (has_evidence) report.evidence = evidence;
  report.canary_drop = in.F64();
  result.is_final = in.U8() != 0;
  result.is_told = in.U8() != 0;
  result.error = in.Text();
  return result;
}

// The row's value behind its format; nothing where that is another one, or the id is no place.
std::optional<ByteReader> RowOf(const Change& entry) {
  ByteReader in(entry.value ? std::string_view(*entry.value) : std::string_view());
  if (in.U8() != kFormat || !NumberOfRow(WithoutLearner(entry.id))) return std::nullopt;
  return in;
}

}  // namespace

const std::string& Served::digest() const {
  static const std::string kBase = "base";
  return adapter ? adapter->digest : kBase;
}

TenantAdapters::TenantAdapters(Teacher& teacher, TenantId tenant, TenantAdaptersOptions options,
                               CheckpointRoom& room)
    : teacher_(teacher), tenant_(std::move(tenant)), options_(options), checkpoints_(room) {}

BackendLearner& TenantAdapters::learner() {
  if (!learner_) learner_ = teacher_.NewLearner(tenant_);
  return *learner_;
}

// ---- A lesson -----------------------------------------------------------------------------------

struct TenantAdapters::Visitor {
  TenantAdapters& self;
  LearningPlace at;
  const std::string* shown;
  bool behind;  // the example is ahead already, as the last of a path

  void operator()(const LoggedExample& logged) {
    if (shown == nullptr) {
      self.error_ =
          Error{Code::kModelFailed, "the answer that the exercise speaks of was never given", ""};
      self.NoteResult(at, {{}, self.error_->message});
      return;
    }
    const bool own = std::holds_alternative<Sequence>(logged.shown);
    self.journal_.Put(at, {{logged.chat, *shown, logged.correction, logged.reward, logged.teacher,
                            logged.source, own, logged.question_bytes},
                           logged.comment});
    if (logged.admitted && !behind) self.ahead_.push_back(at);
  }
  void operator()(const nudge::Return& back) { self.Return(back); }
  void operator()(const Import& import) {
    if (!import.version) {
      self.error_ = Error{Code::kWrongAdapter, "the import brought no weights", ""};
      return;
    }
    self.imports_.Put(at, import.version);
    if (Result<Nothing> started = self.StartFrom(at); !started.ok()) {
      self.imports_.Erase(at);
      self.error_ = started.error();
    }
  }
};

void TenantAdapters::Begin(LearningPlace at, const Lesson& lesson, const std::string* shown) {
  error_.reset();
  report_ = {};
  has_changed_ = true;
  has_ended_ = lesson.ends_learner;
  for (const LearningPlace place : lesson.dropped) Forget(place);
  if (has_ended_) {  // its places are dropped with this lesson
    learner_.reset();
    at_ = 0;
    learnt_ = since_checkpoint_ = 0;
    return;
  }
  if (const Result<Nothing> can = teacher_.CanLearn(); !can.ok()) {
    error_ = can.error();
    if (std::holds_alternative<LoggedExample>(lesson.what)) NoteResult(at, {{}, error_->message});
    return;
  }
  if (lesson.behind) Return(*lesson.behind);
  std::visit(Visitor{*this, at, shown, lesson.behind.has_value()}, lesson.what);
}

// All that is kept of a place that nothing leads to.
void TenantAdapters::Forget(LearningPlace place) {
  journal_.Erase(place);
  results_.Erase(place);
  imports_.Erase(place);
  checkpoints_.Erase(place);
  if (at_ == place) at_.reset();
}

// A learner that has learnt nothing but what it starts from: an import, or nothing.
Result<Nothing> TenantAdapters::StartFrom(LearningPlace start) {
  std::unique_ptr<BackendLearner> fresh = teacher_.NewLearner(tenant_);
  if (const auto* import = imports_.Find(start)) {
    if (Result<Nothing> adopted = fresh->Adopt(import->get()); !adopted.ok()) return adopted;
  }
  learner_ = std::move(fresh);
  at_ = start;
  learnt_ = since_checkpoint_ = 0;
  return Nothing{};
}

void TenantAdapters::Return(const nudge::Return& back) {
  for (const LearningPlace place : back.changed) {
    checkpoints_.Erase(place);
    if (at_ == place) at_.reset();
  }
  const std::vector<LearningPlace>& path = back.path;
  const bool from_import = !path.empty() && imports_.Find(path.front()) != nullptr;
  size_t known = path.size();  // lessons and start that need not be learnt again
  for (; known > 0; --known) {
    const LearningPlace place = path[known - 1];
    if (at_ == place) break;
    if (!checkpoints_.Has(place)) continue;
    const std::optional<std::string> saved = checkpoints_.Read(place);
    if (!saved) continue;
    Result<std::unique_ptr<BackendLearner>> loaded = teacher_.LoadLearner(tenant_, *saved);
    if (!loaded.ok()) continue;
    learner_ = std::move(*loaded);
    at_ = place;
    learnt_ = known - (from_import ? 1 : 0);
    since_checkpoint_ = 0;
    break;
  }
  if (known == 0 && (at_ != LearningPlace{0} || from_import)) {
    const Result<Nothing> started = StartFrom(from_import ? path.front() : 0);
    if (!started.ok()) error_ = started.error();
    known = from_import ? 1 : 0;
  }
  ahead_.assign(path.begin() + static_cast<std::ptrdiff_t>(known), path.end());
}

void TenantAdapters::LearnNext(const ParallelFor& parallel_for) {
  const LearningPlace place = ahead_.front();
  ahead_.pop_front();
  at_ = place;
  ++learnt_;
  // A lesson whose answer was never given has no text.
  if (const KeptLesson* lesson = journal_.Find(place)) {
    TextExample example = lesson->example;
    example.place = place;
    Result<LessonReport> report = learner().Step(example, parallel_for);
    if (report.ok()) {
      report_ = *report;
      NoteResult(place, {*report, {}});
      NoteTrial(*report);
    } else {
      error_ = report.error();
      NoteResult(place, {{}, error_->message});
    }
  }
  if (++since_checkpoint_ < options_.checkpoint_every_lessons) return;
  since_checkpoint_ = 0;
  checkpoints_.Put(place, learnt_, learner().Save());
}

std::optional<LessonEnd> LessonResult::EndOf(LearningPlace place) const {
  using enum LessonEnd::What;
  const uint64_t event = Sequence{place - 1}.ordinal();
  if (!error.empty()) return LessonEnd{event, kFailed, error};
  if (report.accepted && !is_final) return std::nullopt;
  if (report.accepted) return LessonEnd{event, kLearntAfterAll, ""};
  return LessonEnd{event, is_final ? kRefused : kSetAside, std::string(WhyOf(report.verdict))};
}

// Learnt again, a lesson may come to the same end: that is no news.
void TenantAdapters::NoteResult(LearningPlace place, LessonResult result) {
  const LessonResult* before = results_.Find(place);
  result.is_told =
      before != nullptr && before->is_told && before->EndOf(place) == result.EndOf(place);
  results_.Put(place, std::move(result));
}

std::vector<LessonEnd> TenantAdapters::TellEnds() {
  std::vector<LessonEnd> ends;
  std::vector<LearningPlace> told;
  for (const auto& [place, row] : results_.rows()) {
    if (row.value.is_told) continue;
    std::optional<LessonEnd> end = row.value.EndOf(place);
    if (!end) continue;
    ends.push_back(*std::move(end));
    told.push_back(place);
    if (ends.size() == kEndsToldMost) break;
  }
  for (const LearningPlace place : told) results_.Change(place)->is_told = true;
  return ends;
}

// What a later lesson brought to its end.
void TenantAdapters::NoteTrial(const LessonReport& report) {
  const auto note = [&](uint64_t place, bool accepted) {
    const LessonResult* result = results_.Find(place);
    if (result == nullptr) return;
    LessonResult ended = *result;
    ended.report.accepted = accepted;
    ended.is_final = true;
    NoteResult(place, std::move(ended));
  };
  if (report.learnt_after_all) note(*report.learnt_after_all, true);
  for (const uint64_t place : report.refused_for_good) note(place, false);
}

LessonDone TenantAdapters::End(const Lesson& lesson, const Served& parent,
                               const ParallelFor& parallel_for) {
  LessonDone done{std::nullopt, report_, parent, std::nullopt, {}};
  if (lesson.step.snapshot) done.ends = TellEnds();
  // A lesson that cannot be learnt again is none of a return's errors: a fresh learner refuses it
  // too. So it is with what an example stands behind: the version has that, whatever became of it.
  const bool returns = std::holds_alternative<nudge::Return>(lesson.what) ||
                       (lesson.behind && lesson.behind->path.size() > 1);
  if (!returns || !at_) done.error = error_;
  if (!lesson.step.makes || done.error) return done;
  Result<std::shared_ptr<const AdapterVersion>> published =
      learner().Publish(parent.digest(), parallel_for);
  if (published.ok()) {
    done.serves = {*published};
  } else {
    done.error = published.error();
  }
  return done;
}

// ---- State --------------------------------------------------------------------------------------

void TenantAdapters::Save(Changes& changes) {
  journal_.Save(tenant_, kJournalKind, EncodeLesson, changes);
  results_.Save(tenant_, kResultKind, EncodeResult, changes);
  imports_.Save(tenant_, kImportKind, EncodeVersion, changes);
  has_changed_ = false;
  if (has_ended_) {
    changes.push_back({tenant_, kLearnerKind, "", std::nullopt});
    return;
  }
  ByteWriter out;
  out.U8(kFormat);
  out.U8(at_.has_value());
  out.U64(at_.value_or(0));
  out.U64(learnt_);
  out.U8(learner_ != nullptr);
  if (learner_) out.Text(learner_->Save());
  changes.push_back({tenant_, kLearnerKind, "", out.Take()});
}

Result<Nothing> TenantAdapters::Load(const Change& entry) {
  ByteReader in(entry.value ? std::string_view(*entry.value) : std::string_view());
  const std::optional<LearningPlace> place = NumberOfRow(WithoutLearner(entry.id));
  if (in.U8() != kFormat || (entry.kind != kLearnerKind && !place)) return UnreadableEntry(entry);
  if (entry.kind == kLearnerKind) {
    const bool somewhere = in.U8() != 0;
    const LearningPlace at = in.U64();
    at_ = somewhere ? std::optional(at) : std::nullopt;
    learnt_ = in.U64();
    if (in.U8() != 0) {
      auto loaded = teacher_.LoadLearner(tenant_, in.Text());
      if (!loaded.ok()) return loaded.error();
      learner_ = std::move(*loaded);
    }
  } else if (entry.kind == kImportKind) {
    const std::string digest = in.Text();
    const std::string parent = in.Text();
    const std::string weights = in.Text();
    if (!in.complete()) return UnreadableEntry(entry);
    auto version = teacher_.LoadVersion(weights, digest, parent, {});
    if (!version.ok()) return version.error();
    imports_.Restore(*place, std::move(*version));
  } else if (entry.kind == kResultKind) {
    LessonResult result = DecodeResult(in);
    if (!in.complete()) return UnreadableEntry(entry);
    results_.Restore(*place, std::move(result));
  } else {
    KeptLesson lesson = DecodeLesson(in);
    if (!in.complete()) return UnreadableEntry(entry);
    journal_.Restore(*place, std::move(lesson));
  }
  return in.complete() ? Result<Nothing>(Nothing{}) : UnreadableEntry(entry);
}

std::optional<KeptLesson> TenantAdapters::ReadJournal(const Change& entry) {
  std::optional<ByteReader> in = RowOf(entry);
  if (!in) return std::nullopt;
  KeptLesson lesson = DecodeLesson(*in);
  return in->complete() ? std::optional(std::move(lesson)) : std::nullopt;
}

std::optional<LessonResult> TenantAdapters::ReadResult(const Change& entry) {
  std::optional<ByteReader> in = RowOf(entry);
  if (!in) return std::nullopt;
  LessonResult result = DecodeResult(*in);
  return in->complete() ? std::optional(std::move(result)) : std::nullopt;
}

}  // namespace nudge
