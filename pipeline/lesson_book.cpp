#include "pipeline/lesson_book.h"

#include <filesystem>
#include <map>
#include <utility>

#include "pipeline/state/state_store.h"
#include "stages/respond.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOfRespond = "respond/";
constexpr std::string_view kOfExecutor = "executor/";

// The kind without the part that saved it; empty for entries that no lesson needs.
std::string KindWanted(const Change& entry) {
  const std::string_view kind = entry.kind;
  if (kind.starts_with(kOfRespond)) {
    const std::string_view name = kind.substr(kOfRespond.size());
    for (const std::string_view wanted :
         {Lineage::kHeadKind, Lineage::kPlaceKind, Lineage::kVersionKind, Lineage::kFormerKind,
          Respond::kRestrictedKind}) {
      if (name == wanted) return std::string(name);
    }
  } else if (kind.starts_with(kOfExecutor)) {
    const std::string_view name = kind.substr(kOfExecutor.size());
    if (name == TenantAdapters::kJournalKind || name == TenantAdapters::kResultKind) {
      return std::string(name);
    }
  }
  return {};
}

struct Book {
  Lineage lineage;
  std::map<LearningPlace, KeptLesson> kept;
  std::map<LearningPlace, LessonResult> results;
  RestrictedDocuments restricted;

  Result<Nothing> Add(Change entry) {
    entry.kind = KindWanted(entry);
    const LearningPlace place = NumberOfRow(entry.id).value_or(0);
    if (entry.kind == TenantAdapters::kJournalKind) {
      std::optional<KeptLesson> lesson = TenantAdapters::ReadJournal(entry);
      if (!lesson) return UnreadableEntry(entry);
      kept[place] = *std::move(lesson);
    } else if (entry.kind == TenantAdapters::kResultKind) {
      std::optional<LessonResult> result = TenantAdapters::ReadResult(entry);
      if (!result) return UnreadableEntry(entry);
      results[place] = *std::move(result);
    } else if (entry.kind == Respond::kRestrictedKind) {
      return restricted.Load(entry);
    } else {
      return lineage.Load(entry);
    }
    return Nothing{};
  }

  std::vector<TaughtLesson> Lessons() {
    std::vector<TaughtLesson> lessons;
    for (Lineage::LessonView& view : lineage.Lessons()) {
      TaughtLesson lesson{std::move(view), std::nullopt, std::nullopt, false};
      lesson.is_restricted = restricted.HasAnyOf(lesson.view.rests_on);
      const auto text = kept.find(lesson.view.place);
      if (text != kept.end()) lesson.kept = std::move(text->second);
      const auto result = results.find(lesson.view.place);
      if (result != results.end()) lesson.result = std::move(result->second);
      lessons.push_back(std::move(lesson));
    }
    return lessons;
  }
};

Result<Nothing> ReadFile(const std::string& path, const std::optional<TenantId>& tenant,
                         std::vector<TenantLessons>& all) {
  const auto wanted = [&](const Change& entry) {
    return (!tenant || entry.tenant == *tenant) && !KindWanted(entry).empty();
  };
  Result<StateEntries> read = ReadSome(path, wanted);
  if (!read.ok()) return read.error();
  std::map<TenantId, Book> books;
  for (Change& entry : read->entries) {
    Book& book = books[entry.tenant];
    if (Result<Nothing> added = book.Add(std::move(entry)); !added.ok()) return added;
  }
  for (auto& [name, book] : books) {
    all.push_back({name, read->meta.partition, book.lineage.serving(), book.Lessons()});
  }
  return Nothing{};
}

std::string WhyNot(const LessonResult& result) {
  return "set aside: " + std::string(WhyOf(result.report.verdict)) +
         (result.is_final ? " (refused for good: tried again in vain, or too many waited)" : "");
}

}  // namespace

std::string_view TaughtLesson::question() const {
  if (!kept || kept->example.chat.empty()) return {};
  const std::string_view text = kept->example.chat.back().text;
  const uint64_t bytes = kept->example.question_bytes;
  return text.size() < bytes ? text : text.substr(text.size() - bytes);
}

bool TaughtLesson::counts() const {
  using enum Lineage::Standing;
  return (view.standing == kServes || view.standing == kComes) && result && result->error.empty() &&
         result->report.accepted;
}

Result<std::vector<TenantLessons>> ReadLessons(const std::string& path,
                                               const std::optional<TenantId>& tenant) {
  std::vector<std::string> files;
  std::error_code error;
  if (fs::is_regular_file(path, error)) {
    files.push_back(path);
  } else {
    auto states = StateFilesIn(path);
    if (states.empty()) states = StateFilesIn(path + "/state");
    for (const auto& [partition, state] : states) {
      if (!state.live.empty()) files.push_back(state.live);
    }
  }
  if (files.empty()) {
    return Error{Code::kUnreadableFile, path + ": there is no state in it",
                 "give an output folder that has its state, the state folder or a "
                 "partition-NNNNN.sqlite"};
  }
  std::vector<TenantLessons> all;
  for (const std::string& file : files) {
    if (Result<Nothing> read = ReadFile(file, tenant, all); !read.ok()) return read.error();
  }
  return all;
}

std::string InEffect(const TaughtLesson& lesson) {
  const std::optional<Lineage::Standing> leaves = lesson.view.leaves;
  switch (lesson.view.standing) {
    case Lineage::Standing::kServes:
    case Lineage::Standing::kComes:
      if (!lesson.result) return "no: it was not learnt";
      if (!lesson.result->error.empty()) return "no: not learnt: " + lesson.result->error;
      if (!lesson.result->report.accepted) return "no: " + WhyNot(*lesson.result);
      if (lesson.view.standing == Lineage::Standing::kServes) {
        if (!leaves) return "yes";
        return std::string("yes, until the next rebuild that passes it: ") +
               (*leaves == Lineage::Standing::kTakenBack ? "taken back by its user"
                                                         : "replaced by a later word");
      }
      return "not yet: learnt, but the version that serves is from before";
    case Lineage::Standing::kSetAside:
      return "no: set aside by a rollback, a reset or an import; a version that is kept has it";
    case Lineage::Standing::kNotAdmitted:
      return "no: not admitted, its user had had the share of the recent ones";
    case Lineage::Standing::kForgotten:
      return "no: forgotten";
    case Lineage::Standing::kDropped:
      return "no: set aside by a rollback, a reset or an import; no version that is kept has it";
    case Lineage::Standing::kTooOld:
      return "not known: too old to be on record; what serves may have learnt it";
    case Lineage::Standing::kReplaced:
      return "no: replaced by a later word of its user on the same answer";
    case Lineage::Standing::kTakenBack:
      return "no: taken back by its user";
  }
  return "";
}

}  // namespace nudge
