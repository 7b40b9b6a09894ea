#include "stages/model/learn/tenant_adapters.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;

void WriteVersion(ByteWriter& out, const AdapterVersion* version) {
  out.U8(version != nullptr);
  if (version == nullptr) return;
  out.Text(version->digest);
  out.Text(version->parent_digest);
  out.Text(version->weights);
}

}  // namespace

const std::string& Served::digest() const {
  static const std::string kBase = "base";
  return adapter ? adapter->digest : kBase;
}

TenantAdapters::TenantAdapters(Teacher& teacher, TenantId tenant, TenantAdaptersOptions options)
    : teacher_(teacher), tenant_(std::move(tenant)), options_(options) {}

BackendLearner& TenantAdapters::learner() {
  if (!learner_) learner_ = teacher_.NewLearner(tenant_);
  return *learner_;
}

void TenantAdapters::DropJournal() {
  journal_begin_ = journal_end();
  journal_.clear();
}

LessonDone TenantAdapters::Apply(const Lesson& lesson, const std::string* shown,
                                 const Served& target, const Served& parent,
                                 const ParallelFor& parallel_for) {
  LessonDone done{std::nullopt, {}, parent, std::nullopt};
  if (const Result<Nothing> can = teacher_.CanLearn(); !can.ok()) {
    done.error = can.error();
    return done;
  }
  if (const auto* logged = std::get_if<LoggedExample>(&lesson.what)) {
    Result<LessonReport> report = Learn(*logged, shown, parallel_for);
    if (report.ok()) {
      done.report = *report;
    } else {
      done.error = report.error();
    }
  } else {
    struct Visitor {
      TenantAdapters& self;
      const Served& target;
      const ParallelFor& parallel_for;
      Result<Nothing> operator()(const LoggedExample&) { return Nothing{}; }
      Result<Nothing> operator()(const Rollback&) { return self.RollBack(target); }
      Result<Nothing> operator()(const Reset&) {
        self.start_ = nullptr;
        self.DropJournal();
        return self.learner().Adopt(nullptr);
      }
      Result<Nothing> operator()(const Import& import) { return self.BringIn(import); }
      Result<Nothing> operator()(const Unlearn& unlearn) {
        return self.Rebuild(unlearn, parallel_for);
      }
    };
    const Result<Nothing> result = std::visit(Visitor{*this, target, parallel_for}, lesson.what);
    if (!result.ok()) done.error = result.error();
  }
  if (!lesson.step.makes || done.error) return done;
  Result<std::shared_ptr<const AdapterVersion>> published =
      learner().Publish(parent.digest(), parallel_for);
  if (published.ok()) {
    done.serves = {*published, journal_end()};
  } else {
    done.error = published.error();
  }
  return done;
}

Result<LessonReport> TenantAdapters::Learn(const LoggedExample& logged, const std::string* shown,
                                           const ParallelFor& parallel_for) {
  if (logged.chat.empty()) return LessonReport{};  // there was nothing to learn: not accepted
  if (shown == nullptr) {
    return Error{Code::kModelFailed, "the answer that the exercise speaks of was never given", ""};
  }
  TextExample text{logged.chat, *shown, logged.correction, logged.reward};
  Result<LessonReport> report = learner().Step(text, parallel_for);
  if (!report.ok() || !report->accepted) return report;
  journal_.push_back({std::move(text), logged.user, logged.documents});
  if (journal_.size() > options_.journal_examples) {
    journal_.pop_front();
    ++journal_begin_;
  }
  return report;
}

Result<Nothing> TenantAdapters::RollBack(const Served& target) {
  Result<Nothing> adopted = learner().Adopt(target.adapter.get());
  if (!adopted.ok()) return adopted;
  while (!journal_.empty() && journal_end() > target.journal_end) journal_.pop_back();
  dirty_from_ = std::min(dirty_from_, journal_end());
  return adopted;
}

Result<Nothing> TenantAdapters::BringIn(const Import& import) {
  Result<std::shared_ptr<const AdapterVersion>> version =
      teacher_.ImportVersion(import.uri, import.sha256);
  if (!version.ok()) return version.error();
  Result<Nothing> adopted = learner().Adopt(version->get());
  if (!adopted.ok()) return adopted;
  start_ = *version;
  DropJournal();
  return adopted;
}

Result<Nothing> TenantAdapters::Rebuild(const Unlearn& unlearn, const ParallelFor& parallel_for) {
  std::unique_ptr<BackendLearner> fresh = teacher_.NewLearner(tenant_);
  if (start_) {
    if (Result<Nothing> adopted = fresh->Adopt(start_.get()); !adopted.ok()) return adopted;
  }
  std::deque<Entry> kept;
  for (const Entry& entry : journal_) {
    const bool forgotten = unlearn.user.empty() ? entry.documents.contains(unlearn.document_id)
                                                : entry.user == unlearn.user;
    if (forgotten) continue;
    // The gate may refuse a step that it accepted before, when other lessons stood before it. Such
    // a step is not learnt, and stays in the journal.
    Result<LessonReport> report = fresh->Step(entry.example, parallel_for);
    if (!report.ok()) return report.error();
    kept.push_back(entry);
  }
  // The journal's numbers go on, so that no rollback to an older version takes rebuilt entries for
  // its own.
  journal_begin_ = journal_end();
  journal_ = std::move(kept);
  learner_ = std::move(fresh);
  return Nothing{};
}

void TenantAdapters::Save(Changes& changes) {
  for (uint64_t number = saved_begin_; number < saved_end_; ++number) {
    if (number < journal_begin_ || number >= journal_end()) {
      changes.push_back({tenant_, "journal", NumberName(number), std::nullopt});
    }
  }
  for (uint64_t number = std::max(dirty_from_, journal_begin_); number < journal_end(); ++number) {
    const Entry& entry = journal_[static_cast<size_t>(number - journal_begin_)];
    ByteWriter out;
    out.U8(kFormat);
    out.U64(entry.example.chat.size());
    for (const ChatMessage& message : entry.example.chat) {
      out.Text(message.role);
      out.Text(message.text);
    }
    out.Text(entry.example.shown);
    out.U8(entry.example.correction.has_value());
    if (entry.example.correction) out.Text(*entry.example.correction);
    out.F64(entry.example.reward);
    out.Text(entry.user);
    out.U64(entry.documents.size());
    for (const std::string& document : entry.documents) out.Text(document);
    changes.push_back({tenant_, "journal", NumberName(number), out.Take()});
  }
  saved_begin_ = journal_begin_;
  saved_end_ = dirty_from_ = journal_end();
  ByteWriter out;
  out.U8(kFormat);
  out.U64(journal_begin_);
  WriteVersion(out, start_.get());
  out.U8(learner_ != nullptr);
  if (learner_) out.Text(learner_->Save());
  changes.push_back({tenant_, "learner", "", out.Take()});
}

Result<Nothing> TenantAdapters::Load(const Change& entry) {
  ByteReader in(*entry.value);
  if (in.U8() != kFormat) return UnreadableEntry(entry);
  if (entry.kind == "learner") {
    const uint64_t begin = in.U64();
    if (in.U8() != 0) {
      const std::string digest = in.Text();
      const std::string parent = in.Text();
      const std::string weights = in.Text();
      auto version = teacher_.LoadVersion(weights, digest, parent, {});
      if (!version.ok()) return version.error();
      start_ = *version;
    }
    if (in.U8() != 0) {
      auto loaded = teacher_.LoadLearner(tenant_, in.Text());
      if (!loaded.ok()) return loaded.error();
      learner_ = std::move(*loaded);
    }
    journal_begin_ = saved_begin_ = begin;
    saved_end_ = dirty_from_ = journal_end();
    return in.complete() ? Result<Nothing>(Nothing{}) : UnreadableEntry(entry);
  }
  Entry loaded;
  const uint64_t messages = in.U64();
  for (uint64_t i = 0; i < messages && !in.failed(); ++i) {
    std::string role = in.Text();
    loaded.example.chat.push_back({std::move(role), in.Text()});
  }
  loaded.example.shown = in.Text();
  if (in.U8() != 0) loaded.example.correction = in.Text();
  loaded.example.reward = in.F64();
  loaded.user = in.Text();
  const uint64_t documents = in.U64();
  for (uint64_t i = 0; i < documents && !in.failed(); ++i) loaded.documents.insert(in.Text());
  if (!in.complete()) return UnreadableEntry(entry);
  journal_.push_back(std::move(loaded));
  saved_end_ = dirty_from_ = journal_end();
  return Nothing{};
}

}  // namespace nudge
