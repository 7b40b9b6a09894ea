// Runs the program on a log and says what is wrong with what came of it:
// World, LogEvents -> [LogTrial] -> Failure | nothing.
//
//   once     in this process, with the template backend: outcomes, chats as they were shown
//   model    log_model.h; what counts for a version is told to a fresh program, whose digest must
//            be the same
//   threads  again at 1, 2 and 4 threads with seeded delays: the same bytes
//   stops    again, stopped cleanly and as by a crash: the same bytes; no file of the state holds a
//            word that was forgotten before its last cut, and the lessons that it lists as in
//            effect are those that count
//   users    the log with adapters of users (adapt.scope): each is answered as if nobody else had
//            taught the tenant, which a log without the others' words tells; threads and stops
//   kills    again as a process of its own that dies at a fault point (on demand: it is slow)
//
// One thread at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "connectors/memory.h"
#include "pipeline/config/backend_factory.h"
#include "pipeline/config/config.h"
#include "pipeline/lesson_book.h"
#include "pipeline/processor.h"
#include "stages/model/forwarding_backend.h"
#include "tests/model/log_model.h"
#include "tests/temp_folder.h"

namespace nudge::model {

using Lines = std::vector<std::string>;

// Notes the chat of every answer; delays one call in eight where it is given a seed.
class WatchingBackend final : public ForwardingBackend {
 public:
  WatchingBackend(Backend& to, uint64_t delay_seed) : ForwardingBackend(to), seed_(delay_seed) {}

  Result<Vector> Embed(size_t slot, std::string_view text, bool as_query) override {
    Delay();
    return ForwardingBackend::Embed(slot, text, as_query);
  }
  Result<Completed> Generate(size_t slot, const std::vector<ChatMessage>& chat,
                             const AdapterVersion* adapter, const Decoding& decoding, uint64_t seed,
                             const Asker& asker) override {
    Delay();
    Result<Completed> completed =
        ForwardingBackend::Generate(slot, chat, adapter, decoding, seed, asker);
    const std::lock_guard lock(mutex_);
    if (completed.ok()) chats_[completed->text] = chat;
    return completed;
  }

  // After the run.
  const ShownChats& chats() const { return chats_; }

 private:
  void Delay() {
    if (seed_ == 0) return;
    const uint64_t value = RandomAt(seed_, calls_.fetch_add(1));
    if (value % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(value % 200));
  }

  const uint64_t seed_;
  std::atomic<uint64_t> calls_{0};
  std::mutex mutex_;
  ShownChats chats_;
};

struct Ran {
  std::optional<std::string> error;
  ShownChats chats;
};

inline Lines LinesOf(const std::vector<LogEvent>& events, size_t count = SIZE_MAX) {
  Lines lines;
  for (size_t i = 0; i < std::min(count, events.size()); ++i) lines.push_back(events[i].line);
  return lines;
}

inline Lines BytesOf(const MemorySink& sink) {
  Lines lines;
  for (const OutcomeLine& line : sink.lines()) lines.push_back(line.bytes);
  return lines;
}

class LogTrial {
 public:
  // What an input is rewritten to before the program sees it; the model sees it as it is. Tests of
  // the trial let the program so break its promises.
  using Tamper = std::function<Lines(const std::vector<LogEvent>&)>;

  LogTrial() {
    imports_ = folder_.path() + "/imports";
    std::filesystem::create_directories(imports_);
    for (const std::string name : {"one.bin", "two.bin"}) {
      std::ofstream(imports_ + "/" + name) << "the adapter " << name;
      files_.push_back({name, Sha256Hex("the adapter " + name)});
    }
    FindAbilities();
  }

  const Abilities& abilities() const { return abilities_; }
  const std::vector<ImportFile>& files() const { return files_; }

  // The first broken promise. `deep`: threads and stops as well.
  std::optional<Failure> Check(const World& world, const std::vector<LogEvent>& events, bool deep,
                               const Tamper& tamper = {}) {
    const Lines input = tamper ? tamper(events) : LinesOf(events);
    MemorySink sink;
    const Ran ran = Run(Config(world, ""), input, sink, 1 + static_cast<int>(world.seed % 2), 0);
    if (ran.error) return Failure{"run", *ran.error, 0};
    const Lines bytes = BytesOf(sink);
    std::vector<Outcome> outcomes;
    if (auto failure = CheckLines(events, bytes, outcomes)) return failure;
    const LogModel model(world, kSystem, events, outcomes, ran.chats);
    if (auto failure = CheckClaims(model, model.failure() ? model.failure()->event : SIZE_MAX)) {
      return failure;
    }
    if (model.failure()) return model.failure();
    if (!deep) return std::nullopt;
    if (auto failure = CheckThreads(world, input, bytes)) return failure;
    if (auto failure = CheckDisk(world, input, model)) return failure;
    return CheckStops(world, input, bytes, &model);
  }

  void LookAtDisk(bool look) { looks_at_disk_ = look; }

  // The world where each user has an adapter of their own. Left out is what users share by right
  // (few-shots, prompts and what the policy makes of them), and the wait for a rebuilt version.
  static World ByUser(World world) {
    world.few_shots = world.lead_lessons = 0;
    world.corrections_as_examples = world.second_preset = false;
    world.relearn_per_event = 1'000'000;
    world.by_user = true;
    return world;
  }
  // Its log. Commands name users, and rollbacks lead to what was before: in a log of one user alone
  // versions have other numbers. Nobody's questions, which the base model answers, are not judged:
  // alone the user's adapter would have answered them.
  static std::vector<LogEvent> OfUsers(const std::vector<LogEvent>& events, uint64_t seed) {
    static const std::vector<std::string> kWhose = {"ada", "bob", "cem"};
    std::vector<LogEvent> of_users;
    std::set<std::string> of_nobody;
    for (const LogEvent& event : events) {
      if (event.kind == Kind::kQuery && event.user.empty()) of_nobody.insert(event.id);
    }
    for (LogEvent event : events) {
      if (event.kind == Kind::kPromptUpsert || event.kind == Kind::kPromptDelete) continue;
      if (event.kind == Kind::kFeedback && of_nobody.contains(event.query_id)) continue;
      // By the event's id, so that what is sent again is the same.
      const uint64_t draw = SeedOf({event.id, std::to_string(seed)});
      const bool is_of_one = event.kind == Kind::kRollback || event.kind == Kind::kImport ||
                             (event.kind == Kind::kReset && draw % 2 == 0);
      event.version.reset();
      if (is_of_one) event.whose = kWhose[draw / 2 % kWhose.size()];
      of_users.push_back(event.kind == Kind::kGarbage ? event : Written(std::move(event)));
    }
    return of_users;
  }

  // Of ByUser and OfUsers.
  std::optional<Failure> CheckByUser(const World& by_user, const std::vector<LogEvent>& of_users) {
    World world = by_user;
    world.by_user = false;
    const Lines input = LinesOf(of_users);
    MemorySink sink;
    const Ran ran = Run(Config(by_user, ""), input, sink, 2, 0);
    if (ran.error) return Failure{"users", *ran.error, 0};
    std::vector<Outcome> outcomes;
    if (auto failure = CheckLines(of_users, BytesOf(sink), outcomes)) return failure;
    for (const std::string user : {"", "ada", "bob", "cem", "dot"}) {
      if (auto failure = CheckAsIfAlone(world, user, of_users, outcomes)) return failure;
    }
    if (auto failure = CheckThreads(by_user, input, BytesOf(sink))) return failure;
    return CheckStops(by_user, input, BytesOf(sink), nullptr);
  }

  // By `nudge replay`, which dies at fault points and is started again.
  std::optional<Failure> CheckKills(const World& world, const std::vector<LogEvent>& events,
                                    const std::string& program, uint64_t seed) {
    const testing::TempFolder folder;
    Write(world, events, folder.path(), false);
    const std::string command = program + " replay " + folder.path() +
                                "/config.json --quiet --threads 2 >" + folder.path() +
                                "/said 2>&1 </dev/null";
    static const std::vector<std::string> kPlaces = {
        "generation", "training", "checkpoint-before", "checkpoint-inside", "checkpoint-after",
        "replay",     "restore"};
    for (uint64_t kill = 0; kill < 4; ++kill) {
      const std::string& place = kPlaces[RandomAt(seed, 2 * kill) % kPlaces.size()];
      const uint64_t nth = 1 + RandomAt(seed, 2 * kill + 1) % 6;
      const std::string die = "NUDGE_DIE_AT=" + place + ":" + std::to_string(nth) + " ";
      if (std::system((die + command).c_str()) != 0) ++kills_;
    }
    if (std::system(command.c_str()) != 0) {
      return Failure{"killed", "does not go on: " + testing::FileBytes(folder.path() + "/said"), 0};
    }
    MemorySink sink;
    const Ran ran = Run(Config(world, ""), LinesOf(events), sink, 2, 0);
    if (ran.error) return Failure{"run", *ran.error, 0};
    std::istringstream written(testing::FileBytes(folder.path() + "/out/outcomes.jsonl"));
    Lines lines;
    for (std::string line; std::getline(written, line);) lines.push_back(line);
    return Compare(BytesOf(sink), lines, "killed", "killed and started again");
  }

  // Everything that `nudge replay` needs to run the log by itself.
  void Write(const World& world, const std::vector<LogEvent>& events, const std::string& root,
             bool at_end) const {
    std::filesystem::create_directories(root);
    std::filesystem::copy(imports_, root + "/imports",
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    std::ofstream log(root + "/log.jsonl");
    for (const LogEvent& event : events) log << event.line << "\n";
    std::ofstream(root + "/config.json") << Config(world, root + "/out/state", at_end, root);
  }

  size_t runs() const { return runs_; }
  size_t claims() const { return claims_; }
  size_t fresh_runs() const { return fresh_runs_; }
  size_t kills() const { return kills_; }
  size_t adapted() const { return adapted_; }  // answers by users' own adapters

  // The world as a configuration. `state`: its folder, empty for none; `root`: of a run by itself.
  std::string Config(const World& world, const std::string& state, bool at_end = true,
                     const std::string& root = {}) const {
    const auto number = [](auto value) { return std::to_string(value); };
    const std::string files = root.empty() ? folder_.path() : root;
    return "{\"input\":{\"path\":\"log.jsonl\"},\"output\":{\"folder\":\"" + files +
           "/out\"},\"model\":{\"backend\":\"template\",\"template_dimension\":" +
           number(world.dimension) + "},\"prepare\":{\"chunk_chars\":" + number(world.chunk_chars) +
           "},\"adapt\":{\"publish_every_steps\":" + number(world.publish_every) +
           ",\"versions_kept\":" + number(world.versions_kept) +
           ",\"lead_lessons\":" + number(world.lead_lessons) +
           ",\"replace_lessons_max\":" + number(world.replace_lessons_max) +
           ",\"replacements_max\":" + number(world.replacements_max) + ",\"scope\":\"" +
           (world.by_user ? "user" : "tenant") +
           "\",\"relearn_lessons_per_event\":" + number(world.relearn_per_event) +
           ",\"user_window_events\":" + number(world.user_window) + ",\"import_folder\":\"" +
           (root.empty() ? imports_ : root + "/imports") + "\"},\"prompt\":{\"system\":\"" +
           kSystem + "\",\"few_shots\":" + number(world.few_shots) +
           ",\"few_shot_min_similarity\":0.4,\"corrections_as_examples\":" +
           (world.corrections_as_examples ? "true" : "false") +
           ",\"presets\":[{\"name\":\"greedy\"}" +
           (world.second_preset ? ",{\"name\":\"warm\",\"temperature\":0.7}" : "") +
           "]},\"respond\":{\"prompt_tokens_max\":" + number(world.prompt_tokens_max) +
           "},\"cache\":{\"answers_per_tenant\":" + number(world.cache) +
           "},\"checkpoint\":{\"enabled\":" + (state.empty() ? "false" : "true") +
           (state.empty() ? "" : ",\"folder\":\"" + state + "\"") +
           ",\"every_events\":" + number(world.cut_every) +
           ",\"at_end\":" + (at_end ? "true" : "false") + "}}";
  }

 private:
  static constexpr char kSystem[] = "Answer in a few words.";

  Ran Run(const std::string& config_text, const Lines& lines, Sink& sink, int threads,
          uint64_t delay_seed) {
    ++runs_;
    nudge::Config config = ParseConfig(config_text, "");
    config.processor.graph.threads = threads;
    config.processor.executor.threads = static_cast<size_t>(threads);
    const std::unique_ptr<Backend> backend = MakeBackend(config);
    WatchingBackend watching(*backend, delay_seed);
    ProcessorOptions options = ToProcessorOptions(config);
    options.drain = std::chrono::milliseconds(60'000);
    MemorySource source(lines);
    Processor processor(options, {}, watching, source, sink);
    const std::atomic<bool> stop{false};
    const auto summary = processor.Run(stop);
    Ran ran;
    if (!summary.ok()) ran.error = summary.error().message;
    ran.chats = watching.chats();
    return ran;
  }

  static std::string Escaped(const std::string& text) {
    std::string escaped;
    for (const char c : text) {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return escaped;
  }

  void FindAbilities() {
    LogEvent import;
    import.kind = Kind::kImport;
    import.id = "import";
    import.tenant = "t0";
    import.uri = files_.front().uri;
    import.sha256 = files_.front().sha256;
    LogEvent forget;
    forget.kind = Kind::kForgetUser;
    forget.id = "forget";
    forget.tenant = "t0";
    forget.document_id = "ada";
    forget.documents = true;
    MemorySink sink;
    Run(Config({}, ""), LinesOf({Written(import), Written(forget)}), sink, 1, 0);
    abilities_.imports = sink.lines().at(0).kind == OutcomeKind::kApplied;
    abilities_.forgets_documents = sink.lines().at(1).kind == OutcomeKind::kApplied;
  }

  // One outcome for each line, in order, with a chain that holds.
  static std::optional<Failure> CheckLines(const std::vector<LogEvent>& events, const Lines& bytes,
                                           std::vector<Outcome>& outcomes) {
    if (bytes.size() != events.size()) {
      return Failure{"count",
                     std::to_string(bytes.size()) + " outcomes of " +
                         std::to_string(events.size()) + " events",
                     0};
    }
    Sha256Digest chain{};
    for (size_t i = 0; i < bytes.size(); ++i) {
      auto recorded = DecodeOutcome(bytes[i]);
      const ChainedLine split = SplitChain(bytes[i]);
      chain = NextChain(chain, static_cast<int64_t>(i), split.encoded);
      if (!recorded.ok() || recorded->offset != static_cast<int64_t>(i)) {
        return Failure{"count", "outcome " + std::to_string(i) + " is not of its event", i};
      }
      if (Hex(chain) != split.chain) {
        return Failure{"chain", "outcome " + std::to_string(i) + " does not follow", i};
      }
      const Outcome& outcome = outcomes.emplace_back(std::move(recorded->outcome));
      if (events[i].kind != Kind::kGarbage &&
          (outcome.id != events[i].id || outcome.tenant != events[i].tenant)) {
        return Failure{"count", "outcome " + std::to_string(i) + " names another event", i};
      }
    }
    return std::nullopt;
  }

  // ---- Adapters of users ------------------------------------------------------------------------

  // The log as it would be had nobody but this user asked, taught or been commanded about. Of
  // nobody (an empty name) it is a log in which nobody teaches.
  static std::vector<LogEvent> AsIfAlone(const std::string& user,
                                         const std::vector<LogEvent>& events) {
    std::vector<LogEvent> alone;
    for (LogEvent event : events) {
      const bool teaches = event.kind == Kind::kFeedback || event.kind == Kind::kInline ||
                           event.kind == Kind::kExample;
      const bool is_theirs = event.user == user && !(user.empty() && teaches);
      if ((teaches || event.kind == Kind::kQuery) && !is_theirs) continue;
      if (!event.whose.empty() && event.whose != user) continue;
      event.whose.clear();
      alone.push_back(event.kind == Kind::kGarbage ? event : Written(std::move(event)));
    }
    return alone;
  }

  // By tenant and id: which adapter answered the user's questions, and what.
  using Answers = std::map<std::string, std::string>;
  static Answers AnswersOf(const std::string& user, const std::vector<LogEvent>& events,
                           const std::vector<Outcome>& outcomes) {
    Answers answers;
    for (size_t i = 0; i < events.size(); ++i) {
      const auto* response = std::get_if<Response>(&outcomes[i].what);
      if (response == nullptr || events[i].user != user) continue;
      answers[events[i].tenant + " " + events[i].id] =
          response->adapter_digest + " " + response->text;
    }
    return answers;
  }

  std::optional<Failure> CheckAsIfAlone(const World& world, const std::string& user,
                                        const std::vector<LogEvent>& events,
                                        const std::vector<Outcome>& outcomes) {
    const std::vector<LogEvent> alone = AsIfAlone(user, events);
    MemorySink sink;
    const Ran ran = Run(Config(world, ""), LinesOf(alone), sink, 1, 0);
    if (ran.error) return Failure{"users", *ran.error, 0};
    std::vector<Outcome> outcomes_alone;
    if (auto failure = CheckLines(alone, BytesOf(sink), outcomes_alone)) return failure;
    const Answers expected = AnswersOf(user, alone, outcomes_alone);
    const Answers answers = AnswersOf(user, events, outcomes);
    for (const auto& [event, answer] : answers) {
      if (!answer.starts_with("base ")) ++adapted_;
      const auto found = expected.find(event);
      if (found != expected.end() && found->second == answer) continue;
      return Failure{"users",
                     event + " of user '" + user + "' is answered by " + answer + ", alone by " +
                         (found == expected.end() ? "nothing" : found->second),
                     0};
    }
    if (answers.size() == expected.size()) return std::nullopt;
    return Failure{"users", "a question of user '" + user + "' is answered only alone", 0};
  }

  // ---- What counts for a version, learnt afresh -------------------------------------------------

  // `until`: the event from which on the model and the program differ anyhow.
  std::optional<Failure> CheckClaims(const LogModel& model, size_t until) {
    std::set<Learnt> wanted;
    for (const Claim& claim : model.claims()) {
      if (claim.event <= until && !fresh_.contains(claim.learnt)) wanted.insert(claim.learnt);
    }
    // From the longest: a run of it tells of all that are its beginnings.
    for (auto learnt = wanted.rbegin(); learnt != wanted.rend(); ++learnt) {
      if (!fresh_.contains(*learnt)) LearnAfresh(*learnt);
    }
    for (const Claim& claim : model.claims()) {
      if (claim.event > until) continue;
      ++claims_;
      const std::string& digest = fresh_.at(claim.learnt);
      if (digest == claim.digest) continue;
      const bool same_event = model.failure() && model.failure()->event <= claim.event;
      if (same_event) continue;
      return Failure{"digest",
                     "event " + std::to_string(claim.event) + ": the adapter is not what its " +
                         std::to_string(claim.learnt.lessons.size()) + " lessons" +
                         (claim.learnt.uri.empty() ? "" : " behind " + claim.learnt.uri) +
                         " make of it",
                     claim.event};
    }
    return std::nullopt;
  }

  void LearnAfresh(const Learnt& learnt) {
    ++fresh_runs_;
    std::vector<LogEvent> log;
    std::vector<std::pair<size_t, Learnt>> probes;
    const auto add = [&](LogEvent event) {
      event.id = "f" + std::to_string(log.size());
      event.tenant = learnt.tenant;
      log.push_back(Written(std::move(event)));
    };
    Learnt so_far{learnt.tenant, learnt.uri, learnt.sha256, {}};
    const auto probe = [&] {
      probes.emplace_back(log.size(), so_far);
      LogEvent event;
      event.kind = Kind::kQuery;
      event.text = "what now";
      add(std::move(event));
    };
    if (!learnt.uri.empty()) {
      LogEvent event;
      event.kind = Kind::kImport;
      event.uri = learnt.uri;
      event.sha256 = learnt.sha256;
      add(std::move(event));
      probe();
    }
    std::string system = kSystem;
    for (const Restated& lesson : learnt.lessons) {
      if (std::exchange(system, lesson.system) != lesson.system) {
        LogEvent event;
        event.kind = Kind::kPromptUpsert;
        event.prompt_id = "default";
        event.text = lesson.system;
        add(std::move(event));
      }
      // The template backend learns from a chat as one text, roles as lines in between: so turns of
      // few-shots can be told as one question.
      LogEvent event;
      event.kind = Kind::kInline;
      event.text = Escaped(lesson.query);
      event.answer = lesson.completion;
      event.rating = lesson.rating;
      event.correction = lesson.correction;
      event.clicked = lesson.clicked;
      add(std::move(event));
      so_far.lessons.push_back(lesson);
      probe();
    }
    World plain;
    plain.dimension = 0;
    plain.cache = 0;
    std::string config = Config(plain, "");
    config.insert(1, "\"limits\":{\"query_bytes\":1000000},");
    config.replace(config.find("\"prepare\":{"), 11, "\"prepare\":{\"query_chars\":1000000,");
    MemorySink sink;
    const Ran ran = Run(config, LinesOf(log), sink, 1, 0);
    ENSURE(!ran.error);
    for (const auto& [event, so_far_learnt] : probes) {
      const auto outcome = DecodeOutcome(sink.lines().at(event).bytes);
      ENSURE(outcome.ok());
      const auto* response = std::get_if<Response>(&outcome->outcome.what);
      ENSURE(response != nullptr && response->adapter_version > 0);
      fresh_[so_far_learnt] = response->adapter_digest;
    }
  }

  // ---- The same once more -----------------------------------------------------------------------

  static std::optional<Failure> Compare(const Lines& wanted, const Lines& got,
                                        const std::string& kind, const std::string& how) {
    for (size_t i = 0; i < std::max(wanted.size(), got.size()); ++i) {
      if (i < std::min(wanted.size(), got.size()) && wanted[i] == got[i]) continue;
      return Failure{kind,
                     how + ": outcome " + std::to_string(i) + " is " +
                         (i < got.size() ? got[i] : "missing") + ", undisturbed it is " +
                         (i < wanted.size() ? wanted[i] : "not there"),
                     i};
    }
    return std::nullopt;
  }

  std::optional<Failure> CheckThreads(const World& world, const Lines& input, const Lines& bytes) {
    for (const int threads : {1, 2, 4}) {
      MemorySink sink;
      const Ran ran = Run(Config(world, ""), input, sink, threads,
                          world.seed * 8 + static_cast<uint64_t>(threads));
      const std::string how = "at " + std::to_string(threads) + " threads";
      if (ran.error) return Failure{"threads", how + ": " + *ran.error, 0};
      if (auto failure = Compare(bytes, BytesOf(sink), "threads", how)) return failure;
    }
    return std::nullopt;
  }

  std::optional<Failure> CheckDisk(const World& world, const Lines& input, const LogModel& model) {
    const testing::TempFolder folder;
    const std::string state = folder.path() + "/state";
    MemorySink sink;
    const Ran ran = Run(Config(world, state), input, sink, 2, 0);
    if (ran.error) return Failure{"stops", "with a state: " + *ran.error, 0};
    if (auto failure = CheckLessons(state, model)) return failure;
    return LookThrough(state, model.ForgottenAfter(input.size()));
  }

  // What `nudge lessons` says of the state: in effect is what counts.
  static std::optional<Failure> CheckLessons(const std::string& state, const LogModel& model) {
    const auto read = ReadLessons(state, std::nullopt);
    if (!read.ok()) return Failure{"lessons", read.error().message, 0};
    for (const auto& [tenant, counting] : model.Serving()) {
      std::set<size_t> listed;
      for (const TenantLessons& each : *read) {
        if (each.tenant != tenant) continue;
        for (const TaughtLesson& lesson : each.lessons) {
          if (InEffect(lesson).starts_with("yes")) listed.insert(lesson.event());
        }
      }
      if (listed == counting) continue;
      std::string message = tenant + ": in effect should be";
      for (const size_t event : counting) message += " " + std::to_string(event);
      message += ", listed are";
      for (const size_t event : listed) message += " " + std::to_string(event);
      return Failure{"lessons", message, 0};
    }
    return std::nullopt;
  }

  std::optional<Failure> CheckStops(const World& world, const Lines& input, const Lines& bytes,
                                    const LogModel* model) {
    const testing::TempFolder folder;
    MemorySink sink;
    std::string how = "stopped after";
    size_t done = 0;
    for (uint64_t stop = 0; done < input.size(); ++stop) {
      const uint64_t draw = RandomAt(world.seed, 7'000'000 + stop);
      done = stop == 3 ? input.size() : done + draw % (input.size() - done + 1);
      const bool clean = done == input.size() || (draw >> 32) % 2 == 0;
      how += " " + std::to_string(done) + (clean ? "" : " (at once)");
      Lines some(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(done));
      const Ran ran =
          Run(Config(world, folder.path() + "/state", clean), some, sink, 2, world.seed * 8 + stop);
      if (ran.error) return Failure{"stops", how + ": " + *ran.error, done};
      const Lines expected(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(done));
      if (auto failure = Compare(expected, BytesOf(sink), "stops", how)) return failure;
      if (!clean || model == nullptr) continue;
      if (done == input.size()) {
        if (auto failure = CheckLessons(folder.path() + "/state", *model)) return failure;
      }
      if (auto failure = LookThrough(folder.path() + "/state", model->ForgottenAfter(done))) {
        failure->message = how + ": " + failure->message;
        return failure;
      }
    }
    return std::nullopt;
  }

  // Raw bytes of all files: none holds one of the words.
  std::optional<Failure> LookThrough(const std::string& state,
                                     const std::set<std::string>& words) const {
    if (!looks_at_disk_) return std::nullopt;
    for (const auto& file : std::filesystem::recursive_directory_iterator(state)) {
      if (!file.is_regular_file()) continue;
      const std::string bytes = testing::FileBytes(file.path());
      for (const std::string& word : words) {
        const size_t at = bytes.find(word);
        if (at == std::string::npos) continue;
        std::string around = bytes.substr(at - std::min<size_t>(at, 40), 100);
        std::replace_if(
            around.begin(), around.end(), [](char c) { return c < ' ' || c > '~'; }, '.');
        return Failure{"forgotten words on disk",
                       file.path().filename().string() + " holds " + word + ": " + around, 0};
      }
    }
    return std::nullopt;
  }

  const testing::TempFolder folder_;
  std::string imports_;
  std::vector<ImportFile> files_;
  Abilities abilities_;
  std::map<Learnt, std::string> fresh_;  // digests
  bool looks_at_disk_ = true;
  size_t runs_ = 0;
  size_t claims_ = 0;
  size_t fresh_runs_ = 0;
  size_t kills_ = 0;
  size_t adapted_ = 0;
};

// The smallest log that still fails in the same way: events are left out as long as it does, for
// `limit` at most.
inline std::vector<LogEvent> Shrunk(std::vector<LogEvent> events,
                                    const std::function<bool(const std::vector<LogEvent>&)>& fails,
                                    std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (size_t piece = std::max<size_t>(events.size() / 2, 1); piece > 0;) {
    bool smaller = false;
    for (size_t begin = events.size(); begin > 0;) {
      begin -= std::min(begin, piece);
      if (std::chrono::steady_clock::now() > end) return events;
      std::vector<LogEvent> fewer = events;
      const auto first = fewer.begin() + static_cast<std::ptrdiff_t>(std::min(begin, fewer.size()));
      fewer.erase(first, first + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(piece),
                                                          fewer.end() - first));
      if (fewer.size() == events.size() || fewer.empty() || !fails(fewer)) continue;
      events = std::move(fewer);
      smaller = true;
    }
    if (!smaller || piece > 1) piece = piece > 1 ? piece / 2 : (smaller ? 1 : 0);
  }
  return events;
}

}  // namespace nudge::model
