#include "pipeline/lesson_book.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "connectors/json_writer.h"
#include "pipeline/state/state_database.h"
#include "pipeline/state/state_store.h"
#include "stages/learner_rows.h"
#include "stages/respond.h"
#include "stages/table.h"

namespace nudge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOfRespond = "respond/";
constexpr std::string_view kOfExecutor = "executor/";
constexpr char kLast[] = "\xff";  // behind all that is UTF-8

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
  Lineages lineages;
  std::map<LearningPlace, KeptLesson> kept;
  std::map<LearningPlace, LessonResult> results;
  RestrictedDocuments restricted;

  Result<Nothing> Add(Change entry) {
    entry.kind = KindWanted(entry);
    const LearningPlace place = NumberOfRow(WithoutLearner(entry.id)).value_or(0);
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
      return lineages.Load(entry);
    }
    return Nothing{};
  }

  // Of all learners, in log order.
  std::vector<Lineage::LessonView> Views() const {
    std::vector<Lineage::LessonView> views;
    for (const LearnerId& learner : lineages.Learners()) {
      std::vector<Lineage::LessonView> theirs = lineages.Find(learner)->Lessons();
      views.insert(views.end(), std::make_move_iterator(theirs.begin()),
                   std::make_move_iterator(theirs.end()));
    }
    std::sort(views.begin(), views.end(),
              [](const auto& one, const auto& other) { return one.place < other.place; });
    return views;
  }

  TenantLessons Head(const TenantId& tenant, int32_t partition) const {
    TenantLessons head{tenant, partition, lineages.Serving({})};
    for (const LearnerId& learner : lineages.Learners()) {
      if (!learner.empty()) head.serving_users[learner] = lineages.Serving(learner);
    }
    return head;
  }

  std::vector<TaughtLesson> Lessons() {
    std::vector<TaughtLesson> lessons;
    for (Lineage::LessonView& view : Views()) {
      lessons.push_back({std::move(view), std::nullopt, std::nullopt, false});
      Complete(lessons.back());
    }
    return lessons;
  }

  // Moves what was read of its text and its result into the lesson.
  void Complete(TaughtLesson& lesson) {
    lesson.is_restricted = restricted.HasAnyOf(lesson.view.rests_on);
    const auto text = kept.find(lesson.view.place);
    if (text != kept.end()) lesson.kept = std::move(text->second);
    const auto result = results.find(lesson.view.place);
    if (result != results.end()) lesson.result = std::move(result->second);
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
    all.push_back(book.Head(name, read->meta.partition));
    all.back().lessons = book.Lessons();
  }
  return Nothing{};
}

std::string WhyNot(const LessonResult& result) {
  return "set aside: " + std::string(WhyOf(result.report.verdict)) +
         (result.is_final ? " (refused for good: tried again in vain, or too many waited)" : "");
}

void WriteNames(const std::set<std::string>& names, JsonWriter& json) {
  json.Raw("[");
  bool first = true;
  for (const std::string& name : names) {
    if (!std::exchange(first, false)) json.Raw(",");
    json.Text(name);
  }
  json.Raw("]");
}

template <class Value, class Write>
void OrNull(const Value& value, JsonWriter& json, const Write& write) {
  if (value) {
    write(*value);
  } else {
    json.Raw("null");
  }
}

std::string_view Name(Lineage::Standing standing) {
  constexpr std::string_view kNames[] = {"serves",       "comes",     "set_aside",
                                         "not_admitted", "forgotten", "dropped",
                                         "too_old",      "replaced",  "taken_back"};
  return kNames[static_cast<size_t>(standing)];
}

void WriteKept(const TaughtLesson& lesson, JsonWriter& json) {
  const KeptLesson& kept = *lesson.kept;
  json.Raw(R"(,"question":)").Text(lesson.question());
  json.Raw(R"(,"answer":)").Text(kept.example.shown);
  json.Raw(R"(,"correction":)");
  OrNull(kept.example.correction, json, [&](const std::string& text) { json.Text(text); });
  json.Raw(R"(,"reward":)").Number(kept.example.reward);
  json.Raw(R"(,"comment":)").Text(kept.comment);
}

void WriteResult(const LessonResult& result, JsonWriter& json) {
  const LessonReport& report = result.report;
  json.Raw(R"(,"accepted":)").Bool(report.accepted);
  json.Raw(R"(,"set_aside":)").Text(WhyOf(report.verdict));
  json.Raw(R"(,"final":)").Bool(result.is_final);
  json.Raw(R"(,"evidence":)");
  OrNull(report.evidence, json, [&](double evidence) { json.Number(evidence); });
  json.Raw(R"(,"canary_drop":)").Number(report.canary_drop);
  json.Raw(R"(,"nll_before":)").Number(report.nll_before);
  json.Raw(R"(,"nll_after":)");
  OrNull(report.nll_after, json, [&](double nll) { json.Number(nll); });
  json.Raw(R"(,"loss":)").Number(report.loss);
  json.Raw(R"(,"kl":)").Number(report.kl);
  json.Raw(R"(,"tokens":)").Integer(report.tokens);
  json.Raw(R"(,"error":)").Text(result.error);
}

// Adds the rows of a kind with an id in [first, last] to the tenant's book.
Result<Nothing> AddRows(StateDatabase& database, Book& book, const TenantId& tenant,
                        const std::string& kind, const std::string& first,
                        const std::string& last) {
  Result<Changes> rows = database.ReadRows(kind, tenant, first, last);
  if (!rows.ok()) return rows.error();
  for (Change& row : *rows) {
    if (Result<Nothing> added = book.Add(std::move(row)); !added.ok()) return added;
  }
  return Nothing{};
}

// All that a lineage is saved as, and which documents are not for everybody.
Result<Nothing> AddLineage(StateDatabase& database, Book& book, const TenantId& tenant) {
  for (const std::string_view kind :
       {Lineage::kHeadKind, Lineage::kPlaceKind, Lineage::kVersionKind, Lineage::kFormerKind,
        Respond::kRestrictedKind}) {
    Result<Nothing> added =
        AddRows(database, book, tenant, std::string(kOfRespond) + std::string(kind), "", kLast);
    if (!added.ok()) return added;
  }
  return Nothing{};
}

uint64_t BytesOf(const KeptLesson& kept) {
  uint64_t bytes =
      kept.example.shown.size() + kept.comment.size() + kept.example.correction.value_or("").size();
  if (!kept.example.chat.empty()) bytes += kept.example.question_bytes;
  return bytes;
}

}  // namespace

std::string_view TaughtLesson::question() const {
  if (!kept || kept->example.chat.empty()) return {};
  const std::string_view text = kept->example.chat.back().text;
  const uint64_t bytes = kept->example.question_bytes;
  return text.size() < bytes ? text : text.substr(text.size() - bytes);
}

Version TenantLessons::ServingOf(const std::optional<std::string>& user) const {
  const auto own = serving_users.find(user.value_or(""));
  return own != serving_users.end() ? own->second : serving;
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

Result<LessonsPage> ReadLessonsPage(const std::string& path, const LessonsWanted& wanted) {
  StateDatabase database(path);
  if (auto opened = database.Open(StateDatabase::Access::kBeside); !opened.ok()) {
    return opened.error();
  }
  if (auto begun = database.Begin(); !begun.ok()) return begun.error();
  const Result<StateMeta> meta = database.ReadMeta();
  if (!meta.ok()) return meta.error();
  Book book;
  if (auto added = AddLineage(database, book, wanted.tenant); !added.ok()) return added.error();
  LessonsPage page;
  page.events = meta->events;
  page.tenant = book.Head(wanted.tenant, meta->partition);
  uint64_t bytes = 0;
  for (Lineage::LessonView& view : book.Views()) {
    if (wanted.user && view.taught.user != *wanted.user) continue;
    ++page.matching;
    TaughtLesson lesson{std::move(view), std::nullopt, std::nullopt, false};
    if (page.after || (wanted.after && lesson.event() <= *wanted.after)) continue;
    auto& lessons = page.tenant.lessons;
    if (lessons.size() == wanted.lessons_max) {
      page.after = lessons.back().event();
      continue;
    }
    const std::string id = RowId(lesson.view.place);  // the learner's name may stand behind it
    for (const char* kind : {TenantAdapters::kJournalKind, TenantAdapters::kResultKind}) {
      Result<Nothing> added =
          AddRows(database, book, wanted.tenant, std::string(kOfExecutor) + kind, id, id + kLast);
      if (!added.ok()) return added.error();
    }
    book.Complete(lesson);
    const uint64_t more = lesson.kept ? BytesOf(*lesson.kept) : 0;
    if (!lessons.empty() && bytes + more > wanted.bytes_max) {
      page.after = lessons.back().event();
      continue;
    }
    bytes += more;
    lessons.push_back(std::move(lesson));
  }
  return page;
}

std::string LessonJson(const TenantLessons& tenant, const TaughtLesson& lesson) {
  const Lineage::LessonView& view = lesson.view;
  std::string out;
  JsonWriter json(out);
  json.Raw(R"({"tenant":)").Text(tenant.tenant);
  json.Raw(R"(,"partition":)").Integer(tenant.partition);
  json.Raw(R"(,"event":)").Integer(lesson.event());
  json.Raw(R"(,"event_source":)").Text(view.taught.source);
  json.Raw(R"(,"event_id":)").Text(view.taught.id);
  json.Raw(R"(,"query_source":)").Text(view.taught.query_source);
  json.Raw(R"(,"query_id":)").Text(view.taught.query_id);
  json.Raw(R"(,"user":)").Text(view.taught.user);
  json.Raw(R"(,"people":)");
  WriteNames(view.people, json);
  json.Raw(R"(,"step":)").Integer(view.step);
  json.Raw(R"(,"makes_version":)");
  OrNull(view.makes, json, [&](Version version) { json.Integer(version); });
  json.Raw(R"(,"standing":)").Text(Name(view.standing));
  json.Raw(R"(,"in_effect":)").Text(InEffect(lesson));
  json.Raw(R"(,"restricted":)").Bool(lesson.is_restricted);
  if (lesson.kept) WriteKept(lesson, json);
  if (lesson.result) WriteResult(*lesson.result, json);
  json.Raw("}");
  return out;
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
