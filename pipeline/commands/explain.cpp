// `nudge explain`: why an event ended as it did, from the outcomes of a run; and what it taught,
// from the state beside them.
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "connectors/codec.h"
#include "connectors/erased_outcomes.h"
#include "connectors/file_source.h"
#include "connectors/json_reader.h"
#include "pipeline/commands/commands.h"
#include "pipeline/lesson_book.h"
#include "pipeline/observe/printable.h"
#include "pipeline/state/state_store.h"

namespace nudge {
namespace {

constexpr size_t kStepsShown = 20;  // the last ones before the answer

// A receipt with a training step or a new version, or of a command such as a rollback: what an
// adapter came from.
struct Learnt {
  std::string id;
  std::string type;
  Applied applied;
};

// What one pass over the log keeps: memory grows with the tenant's steps, not with the log.
class Finder {
 public:
  // by_user: the tenants whose users have adapters of their own.
  Finder(std::string id, std::set<TenantId> by_user)
      : id_(std::move(id)), by_user_(std::move(by_user)) {}

  // Prints the outcomes of the event as they come by.
  Result<Nothing> Visit(const Record& record);
  size_t found() const { return found_; }

 private:
  void PrintResponse(const Outcome& outcome, const Response& response) const;
  void PrintFeedback(const Outcome& outcome, Version version) const;

  const std::string id_;
  const std::set<TenantId> by_user_;
  size_t found_ = 0;
  // Partition and tenant -> its learning so far, in log order.
  std::map<std::pair<int32_t, TenantId>, std::vector<Learnt>> learnt_;
  int32_t partition_ = 0;  // of the line that is printed
};

void Line(std::string_view name, const std::string& text) {
  std::cout << "  " << name << std::string(name.size() < 12 ? 12 - name.size() : 1, ' ')
            << Printable(text) << "\n";
}

std::string Shortest(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

void PrintDecoding(const Response& response) {
  const Decoding& decoding = response.decoding;
  Line("decoding", response.decoding_name + ": temperature " + Shortest(decoding.temperature) +
                       ", top_p " + Shortest(decoding.top_p) + ", top_k " +
                       std::to_string(decoding.top_k) + ", at most " +
                       std::to_string(decoding.max_tokens) + " tokens");
  Line("propensity", Shortest(response.propensity) +
                         ", the probability with which the policy chose this prompt and decoding");
}

void PrintDeadLetter(const DeadLetter& letter) {
  std::cout << "a dead letter: nothing of the event was applied\n";
  Line("stage", letter.stage);
  Line("code", std::string(Name(letter.error.code)));
  Line("message", letter.error.message);
  Line("what to do", letter.error.remedy.empty() ? "correct the event and send it again under a "
                                                   "new id"
                                                 : letter.error.remedy);
  Line("event", std::to_string(letter.bytes_total) + " bytes, sha256 " + letter.bytes_sha256);
}

void PrintApplied(const Applied& applied) {
  std::cout << "a receipt\n";
  Line("did", applied.summary);
  if (applied.step) Line("step", std::to_string(*applied.step) + " of the tenant's adapter");
  if (applied.makes_version) Line("makes", "version " + std::to_string(*applied.makes_version));
}

void Finder::PrintResponse(const Outcome& outcome, const Response& response) const {
  std::cout << "an answer\n";
  Line("text", response.text);
  if (response.citations.empty()) Line("citations", "none: no passage was shown to the model");
  for (const Citation& citation : response.citations) {
    Line("cites", Quoted(citation.document_id) + " version " + std::to_string(citation.version) +
                      ", score " + Shortest(citation.score));
  }
  Line("prompt",
       Quoted(response.prompt_id) + " version " + std::to_string(response.prompt_version));
  PrintDecoding(response);
  Line("adapter", "version " + std::to_string(response.adapter_version) + ", digest " +
                      response.adapter_digest);
  Line("cache", (response.cache_hit ? "hit: " : "not used: ") + response.cache_why);
  Line("tokens", std::to_string(response.prompt_tokens) + " of prompt, " +
                     std::to_string(response.completion_tokens) + " of answer");
  PrintFeedback(outcome, response.adapter_version);
}

// Steps up to the one that made the version are in it; those after it are not.
void Finder::PrintFeedback(const Outcome& outcome, Version version) const {
  if (version == 0) {
    std::cout << "no feedback is behind this answer: it is the base model's\n";
    return;
  }
  if (by_user_.contains(outcome.tenant)) {
    std::cout << "behind adapter version " << version << " is the feedback of one user alone; "
              << "`nudge lessons` tells who taught what\n";
    return;
  }
  std::vector<const Learnt*> behind;
  const auto found = learnt_.find({partition_, outcome.tenant});
  if (found != learnt_.end()) {
    size_t made_at = 0;
    for (size_t i = 0; i < found->second.size(); ++i) {
      const auto& makes = found->second[i].applied.makes_version;
      if (makes && *makes <= version) made_at = i + 1;
    }
    for (size_t i = 0; i < made_at; ++i) behind.push_back(&found->second[i]);
  }
  std::cout << "the feedback behind adapter version " << version << ": " << behind.size()
            << (behind.size() == 1 ? " event" : " events") << "\n";
  const size_t hidden = behind.size() > kStepsShown ? behind.size() - kStepsShown : 0;
  if (hidden > 0) std::cout << "  " << hidden << " earlier ones, then\n";
  for (size_t i = hidden; i < behind.size(); ++i) {
    std::cout << "  " << behind[i]->id << " (" << behind[i]->type
              << "): " << Printable(behind[i]->applied.summary) << "\n";
  }
}

Result<Nothing> Finder::Visit(const Record& record) {
  const std::string line = "outcomes.jsonl: line " + std::to_string(record.offset + 1) + ": ";
  const std::string remedy = "replay the events into an empty folder";
  if (record.refusal) return Error{Code::kUnreadableFile, line + "too long", remedy};
  if (DecodeErased(record.bytes)) return Nothing{};  // it has no id any more
  const Result<RecordedOutcome> read = DecodeOutcome(record.bytes);
  if (!read.ok()) return Error{Code::kUnreadableFile, line + read.error().message, remedy};
  const Outcome& outcome = read->outcome;
  partition_ = read->partition;
  const auto* applied = std::get_if<Applied>(&outcome.what);
  if (outcome.id == id_) {
    if (found_++ > 0) std::cout << "\n";
    std::cout << "event " << Quoted(outcome.id) << " of " << Quoted(outcome.source) << ", "
              << outcome.type << ", tenant " << Quoted(outcome.tenant) << ", offset "
              << read->offset << " of partition " << read->partition << ": ";
    if (applied != nullptr) PrintApplied(*applied);
    if (const auto* response = std::get_if<Response>(&outcome.what)) {
      PrintResponse(outcome, *response);
    }
    if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) PrintDeadLetter(*letter);
    for (const SnapshotRef& snapshot : outcome.snapshots) Line("snapshot", snapshot.uri);
    for (const LessonEnd& end : outcome.lesson_ends) {
      Line("lesson", "of event " + std::to_string(end.event) + " " +
                         std::string(kLessonEndNames[static_cast<size_t>(end.what)]) +
                         (end.why.empty() ? "" : ": " + end.why));
    }
  }
  const bool shapes = applied != nullptr &&
                      (applied->step || applied->makes_version || outcome.type == "nudge.adapter");
  if (shapes) {
    learnt_[{read->partition, outcome.tenant}].push_back({outcome.id, outcome.type, *applied});
  }
  return Nothing{};
}

// What the state beside the outcomes knows of lessons; nothing where there is none.
Result<std::vector<TenantLessons>> LessonsBeside(const std::string& output) {
  if (StateFilesIn(output + "/state").empty()) return std::vector<TenantLessons>();
  return ReadLessons(output + "/state", std::nullopt);
}

std::set<TenantId> TenantsByUser(const Result<std::vector<TenantLessons>>& lessons) {
  std::set<TenantId> by_user;
  if (!lessons.ok()) return by_user;
  for (const TenantLessons& tenant : *lessons) {
    if (!tenant.serving_users.empty()) by_user.insert(tenant.tenant);
  }
  return by_user;
}

// What the event taught.
void PrintLessonsOf(const Result<std::vector<TenantLessons>>& lessons, const std::string& id) {
  if (!lessons.ok()) {
    std::cerr << "nudge: what it taught cannot be said: " << lessons.error().message << "\n";
    return;
  }
  for (const TenantLessons& tenant : *lessons) {
    for (const TaughtLesson& lesson : tenant.lessons) {
      if (lesson.view.taught.id != id) continue;
      std::cout << "\nwhat it taught the model of tenant " << Quoted(tenant.tenant) << "\n";
      PrintLesson(lesson);
    }
  }
}

}  // namespace

int Explain(const ExplainArguments& arguments) {
  const std::string path = std::filesystem::is_directory(arguments.output)
                               ? arguments.output + "/outcomes.jsonl"
                               : arguments.output;
  FileSource source({.path = path, .line_bytes = kOutcomeLineBytes});
  const Result<std::vector<TenantLessons>> lessons = LessonsBeside(arguments.output);
  Finder finder(arguments.id, TenantsByUser(lessons));
  Record record;
  while (!stop_requested) {
    const Result<Source::Pull> pull = source.Next(record, std::chrono::milliseconds(100));
    if (!pull.ok()) return FailWith(pull.error(), kExitUsage);
    if (*pull == Source::Pull::kEnd) break;
    if (*pull == Source::Pull::kNothing) continue;
    if (Result<Nothing> visited = finder.Visit(record); !visited.ok()) {
      return FailWith(visited.error(), kExitUsage);
    }
  }
  if (stop_requested) return kExitInterrupted;
  if (finder.found() > 0) {
    PrintLessonsOf(lessons, arguments.id);
    return kExitDone;
  }
  return FailWith(
      {Code::kUnreadableFile, path + " has no outcome of an event with id " + Quoted(arguments.id),
       "give the id of the event, not that of the outcome; events stand in the input "
       "and in each outcome's data.event. One that was forgotten is not found any more"},
      kExitFailed);
}

}  // namespace nudge
