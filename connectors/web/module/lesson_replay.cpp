#include "connectors/web/module/lesson_replay.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "stages/model/trainer/gemm.h"

namespace nudge {

namespace {

using Json = nlohmann::json;

Error Malformed(size_t line, const std::string& what) {
  return {Code::kUnreadableFile, "line " + std::to_string(line) + ": " + what,
          "export the lessons again"};
}

Error AtLine(size_t line, const Error& error) {
  return {error.code, "line " + std::to_string(line) + ": " + error.message, error.remedy};
}

// ---- Members, of exactly their types: what is not throws Json::exception

uint64_t NumberIn(const Json& value) {
  return value.get_ref<const Json::number_unsigned_t&>();
}

const std::string& TextIn(const Json& object, const char* name) {
  return object.at(name).get_ref<const Json::string_t&>();
}

// What is no token of any model stays none.
std::vector<int32_t> TokensIn(const Json& list) {
  std::vector<int32_t> tokens;
  for (const Json& token : list.get_ref<const Json::array_t&>()) {
    tokens.push_back(static_cast<int32_t>(std::min<uint64_t>(NumberIn(token), INT32_MAX)));
  }
  return tokens;
}

TrainSequence SequenceIn(const Json& object) {
  TrainSequence sequence;
  sequence.tokens = TokensIn(object.at("tokens"));
  sequence.completion_begin = NumberIn(object.at("completion_begin"));
  return sequence;
}

std::vector<TrainSequence> AnchorsIn(const Json& list) {
  std::vector<TrainSequence> anchors;
  for (const Json& one : list.get_ref<const Json::array_t&>()) anchors.push_back(SequenceIn(one));
  return anchors;
}

std::vector<TrainSequence> StepIn(const Json& list) {
  std::vector<TrainSequence> sequences;
  for (const Json& one : list.get_ref<const Json::array_t&>()) {
    TrainSequence sequence = SequenceIn(one);
    const uint64_t objective = NumberIn(one.at("objective"));
    sequence.objective = static_cast<Objective>(
        std::min<uint64_t>(objective, static_cast<uint64_t>(Objective::kAnchor)));
    sequence.weight = one.at("weight").get<float>();
    sequence.beta = one.at("beta").get<float>();
    sequence.keep = one.at("keep").get<float>();
    sequence.reach_floor = one.at("reach_floor").get<float>();
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

TokenExample ExampleIn(const Json& lesson) {
  TokenExample example;
  example.prompt = TokensIn(lesson.at("prompt"));
  example.shown_completion = TokensIn(lesson.at("shown"));
  if (lesson.contains("correction")) example.correction = TokensIn(lesson.at("correction"));
  example.reward = lesson.at("reward").get<double>();
  example.own_answer = lesson.at("own_answer").get_ref<const Json::boolean_t&>();
  const Json& voice = lesson.at("voice");
  example.voice = {NumberIn(voice.at(0)), NumberIn(voice.at(1))};
  example.place = NumberIn(lesson.at("place"));
  if (lesson.contains("quote")) example.quote = SequenceIn(lesson.at("quote"));
  return example;
}

WebOptions OptionsIn(const Json& object) {
  WebOptions options;
  options.step_tokens_max = NumberIn(object.at("step_tokens_max"));
  options.rank = static_cast<uint32_t>(std::min<uint64_t>(NumberIn(object.at("rank")), UINT32_MAX));
  options.alpha = object.at("alpha").get<float>();
  options.seed = NumberIn(object.at("seed"));
  AdamWOptions& steps = options.steps;
  const std::pair<const char*, double*> numbers[] = {{"learning_rate", &steps.learning_rate},
                                                     {"beta1", &steps.beta1},
                                                     {"beta2", &steps.beta2},
                                                     {"epsilon", &steps.epsilon},
                                                     {"weight_decay", &steps.weight_decay},
                                                     {"clip_norm", &steps.clip_norm},
                                                     {"warmup_steps", &steps.warmup_steps}};
  for (const auto& [name, at] : numbers) {
    *at = object.at(name).get<double>();
  }
  return options;
}

// ---- The lines, one after the other

class Replayer {
 public:
  Replayer(const ReplayInput& input, ParallelFor parallel)
      : input_(input), parallel_(std::move(parallel)) {}

  // Of all adapters that may be taken over.
  Result<Nothing> Know(const std::vector<std::string>& adapters) {
    for (size_t i = 0; i < adapters.size(); ++i) {
      auto decoded = DecodeGgufAsItIs(adapters[i]);
      if (!decoded.ok()) {
        return Error{
            decoded.error().code,
            "adapter " + std::to_string(i + 1) + " of those given: " + decoded.error().message,
            decoded.error().remedy};
      }
      adapters_[decoded->values_digest] = &adapters[i];
    }
    return Nothing{};
  }

  // Throws Json::exception for a line that has not what it must have.
  Result<Nothing> Take(size_t number, const Json& line) {
    number_ = number;
    if (number == 1) return Begin(line);
    if (line.contains("lesson")) return Teach(line);
    if (line.contains("step")) return Step(line);
    if (line.contains("adapter")) return TakeAdapter(TextIn(line, "adapter"));
    if (line.contains("anchors")) {
      anchors_ = AnchorsIn(line.at("anchors"));
      return replayed_.session->SetAnchors(anchors_);
    }
    if (line.contains("restored")) return GoOn(line);
    if (line.contains("end")) return End(line);
    return Error{Code::kUnreadableFile, "it says nothing that a log says",
                 "export the lessons again"};
  }

  bool has_ended() const { return has_ended_; }
  bool is_done() const { return replayed_.difference.has_value(); }
  ReplayedLessons Done() { return std::move(replayed_); }

 private:
  Result<Nothing> Begin(const Json& line) {
    if (TextIn(line, "log") != "lessons" || NumberIn(line.at("format")) != LessonLog::kFormat) {
      return Error{Code::kUnreadableFile, "no log of lessons, or one of another version",
                   "name a file that a page exported as its lessons"};
    }
    if (TextIn(line, "products") != PortablePath()) {
      return Error{Code::kWrongAdapter,
                   "the lessons were learnt by products '" + TextIn(line, "products") +
                       "', and this program has '" + PortablePath() + "'",
                   "verify them with the version that the page has"};
    }
    if (auto opened = Open(line, "options"); !opened.ok()) return opened;
    if (auto checked = CheckRule(line); !checked.ok()) return checked;
    const std::string& base = TextIn(line, "base_sha256");
    if (base == replayed_.session->base_sha256()) return Nothing{};
    return Error{Code::kWrongAdapter,
                 "the lessons are of the base model " + base + ", and this one is " +
                     replayed_.session->base_sha256(),
                 "name the model that the page had loaded"};
  }

  // A session with those options in place of the one there is.
  Result<Nothing> Open(const Json& line, const char* name) {
    const WebOptions options = OptionsIn(line.at(name));
    if (options.step_tokens_max > kReplayStepTokensMost) {
      return Error{Code::kModelFailed,
                   "steps of " + std::to_string(options.step_tokens_max) + " tokens",
                   std::to_string(kReplayStepTokensMost) + " are replayed at most"};
    }
    auto session = WebSession::Load(input_.model, input_.model_bytes, options, parallel_);
    if (!session.ok()) return session.error();
    options_ = options;
    replayed_.session = std::move(session).value();
    return Nothing{};
  }

  Result<Nothing> CheckRule(const Json& line) const {
    if (TextIn(line, "rule") == RuleDigest(RuleOf(options_))) return Nothing{};
    return Error{Code::kWrongAdapter, "the lessons follow a rule that this program has not",
                 "verify them with the version that the page has"};
  }

  Result<Nothing> Teach(const Json& line) {
    const auto report = replayed_.session->Teach(ExampleIn(line.at("lesson")));
    if (!report.ok()) return report.error();
    ++replayed_.lessons;
    if (report->accepted) ++replayed_.taken;
    const std::string& verdict = TextIn(line, "verdict");
    if (verdict != NameOf(report->verdict)) {
      Differ("the lesson is '" + verdict + "' in the log, and '" +
             std::string(NameOf(report->verdict)) + "' here");
    }
    Compare(TextIn(line, "digest"));
    return Nothing{};
  }

  Result<Nothing> Step(const Json& line) {
    const auto losses = replayed_.session->Learn(StepIn(line.at("step")));
    if (!losses.ok()) return losses.error();
    ++replayed_.steps;
    Compare(TextIn(line, "digest"));
    return Nothing{};
  }

  Result<Nothing> TakeAdapter(const std::string& digest) {
    if (digest == "new") {
      replayed_.session->Reset();
      return Nothing{};
    }
    const auto found = adapters_.find(digest);
    if (found == adapters_.end()) {
      return Error{Code::kWrongAdapter,
                   "the page took over an adapter that is not given: its values are " + digest,
                   "name its file too"};
    }
    return replayed_.session->Import(*found->second);
  }

  Result<Nothing> GoOn(const Json& line) {
    const std::string saved = replayed_.session->Save();
    if (OptionsIn(line.at("restored")) != options_) {
      if (auto opened = Open(line, "restored"); !opened.ok()) return opened;
      if (auto set = replayed_.session->SetAnchors(anchors_); !set.ok()) return set;
    }
    if (auto checked = CheckRule(line); !checked.ok()) return checked;
    return replayed_.session->Restore(saved);
  }

  Result<Nothing> End(const Json& line) {
    if (NumberIn(line.at("end")) + 1 != number_) {
      return Error{Code::kUnreadableFile,
                   "the log had " + std::to_string(NumberIn(line.at("end"))) +
                       " lines before its last one, and has " + std::to_string(number_ - 1),
                   "export the lessons again"};
    }
    has_ended_ = true;
    if (line.contains("cut")) {
      replayed_.cut = TextIn(line, "cut");
    } else {
      Compare(TextIn(line, "digest"));
    }
    return Nothing{};
  }

  void Compare(const std::string& digest) {
    const std::string here = replayed_.session->digest();
    if (digest != here) Differ("the adapter is " + digest + " in the log, and " + here + " here");
  }

  void Differ(std::string what) {
    if (replayed_.difference) return;
    replayed_.difference =
        LessonDifference{number_, replayed_.lessons + replayed_.steps, std::move(what)};
  }

  const ReplayInput& input_;
  const ParallelFor parallel_;
  std::map<std::string, const std::string*> adapters_;  // by the digest of their values
  ReplayedLessons replayed_;
  WebOptions options_;
  std::vector<TrainSequence> anchors_;
  size_t number_ = 0;
  bool has_ended_ = false;
};

}  // namespace

Result<ReplayedLessons> ReplayLessons(const ReplayInput& input, ParallelFor parallel) {
  if (input.log.size() > kReplayLogBytesMost) {
    return Error{
        Code::kUnreadableFile,
        "more than " + std::to_string(kReplayLogBytesMost) + " bytes are no log of lessons",
        "name a file that a page exported as its lessons"};
  }
  Replayer replayer(input, std::move(parallel));
  if (auto known = replayer.Know(input.adapters); !known.ok()) return known.error();
  size_t number = 0;
  for (std::string_view rest = input.log; !rest.empty() && !replayer.is_done();) {
    ++number;
    if (replayer.has_ended()) return Malformed(number, "it stands behind the log's last line");
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) return Malformed(number, "the log is truncated here");
    const Json line = Json::parse(rest.substr(0, end), nullptr, false);
    if (!line.is_object()) return Malformed(number, "it is no JSON object");
    try {
      if (auto taken = replayer.Take(number, line); !taken.ok()) {
        return AtLine(number, taken.error());
      }
    } catch (const Json::exception& wrong) {
      return Malformed(number, wrong.what());
    }
    rest.remove_prefix(end + 1);
  }
  if (!replayer.has_ended() && !replayer.is_done()) {
    return Error{Code::kUnreadableFile,
                 "the log is truncated: it ends behind line " + std::to_string(number) +
                     " and without its last line",
                 "export the lessons again"};
  }
  return replayer.Done();
}

}  // namespace nudge
