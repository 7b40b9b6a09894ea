#include "connectors/web/module/lesson_log.h"

#include <type_traits>
#include <utility>
#include <variant>

#include "stages/hash.h"
#include "stages/model/trainer/gemm.h"
#include "stages/options.h"

namespace nudge {

namespace {

constexpr std::string_view kAdapterBegin = R"({"adapter":)";
constexpr std::string_view kAnchorsBegin = R"({"anchors":)";
constexpr size_t kDigestRoom = 128;  // of a digest and what stands around it

// Every double and float comes back as it was.
std::string Text(double number) {
  return keys::ToText(number);
}

std::string Quoted(std::string_view text) {
  return '"' + std::string(text) + '"';
}

std::string ListOf(std::span<const int32_t> tokens) {
  std::string list = "[";
  for (const int32_t token : tokens) {
    if (list.size() > 1) list += ',';
    list += std::to_string(token);
  }
  return list + ']';
}

// The two members without which there is no sequence, and no brackets.
std::string TokensOf(const TrainSequence& sequence) {
  return R"("tokens":)" + ListOf(sequence.tokens) + R"(,"completion_begin":)" +
         std::to_string(sequence.completion_begin);
}

template <class Member>
std::string ListOf(std::span<const TrainSequence> sequences, Member&& member) {
  std::string list = "[";
  for (const TrainSequence& sequence : sequences) {
    if (list.size() > 1) list += ',';
    list += '{' + member(sequence) + '}';
  }
  return list + ']';
}

std::string StepLine(std::span<const TrainSequence> sequences, std::string_view digest) {
  const auto member = [](const TrainSequence& sequence) {
    return TokensOf(sequence) + R"(,"objective":)" +
           std::to_string(static_cast<int>(sequence.objective)) + R"(,"weight":)" +
           Text(sequence.weight) + R"(,"beta":)" + Text(sequence.beta) + R"(,"keep":)" +
           Text(sequence.keep) + R"(,"reach_floor":)" + Text(sequence.reach_floor);
  };
  return R"({"step":)" + ListOf(sequences, member) + R"(,"digest":)" + Quoted(digest) + '}';
}

std::string LessonLine(const TokenExample& example, LessonVerdict verdict,
                       std::string_view digest) {
  std::string line = R"({"lesson":{"prompt":)" + ListOf(example.prompt) + R"(,"shown":)" +
                     ListOf(example.shown_completion);
  if (example.correction) line += R"(,"correction":)" + ListOf(*example.correction);
  line += R"(,"reward":)" + Text(example.reward);
  line += R"(,"own_answer":)" + std::string(example.own_answer ? "true" : "false");
  line += R"(,"voice":[)" + std::to_string(example.voice.source) + ',' +
          std::to_string(example.voice.person) + R"(],"place":)" + std::to_string(example.place);
  if (example.quote) line += R"(,"quote":{)" + TokensOf(*example.quote) + '}';
  return line + R"(},"verdict":)" + Quoted(NameOf(verdict)) + R"(,"digest":)" + Quoted(digest) +
         '}';
}

// What of the options decides the adapter, and the rule that they make.
std::string OptionsText(const WebOptions& options) {
  const AdamWOptions& steps = options.steps;
  std::string text = R"({"step_tokens_max":)" + std::to_string(options.step_tokens_max) +
                     R"(,"rank":)" + std::to_string(options.rank) + R"(,"alpha":)" +
                     Text(options.alpha) + R"(,"seed":)" + std::to_string(options.seed);
  const std::pair<const char*, double> numbers[] = {{"learning_rate", steps.learning_rate},
                                                    {"beta1", steps.beta1},
                                                    {"beta2", steps.beta2},
                                                    {"epsilon", steps.epsilon},
                                                    {"weight_decay", steps.weight_decay},
                                                    {"clip_norm", steps.clip_norm},
                                                    {"warmup_steps", steps.warmup_steps}};
  for (const auto& [name, value] : numbers) {
    text += ',' + Quoted(name) + ':' + Text(value);
  }
  return text + R"(},"rule":)" + Quoted(RuleDigest(RuleOf(options)));
}

}  // namespace

std::string RuleDigest(const LearnerOptions& rule) {
  LearnerOptions copy = rule;
  ByteWriter out;
  for (const keys::Field& field : OptionsOf(copy)) {
    out.Text(field.path);
    std::visit(
        [&]<class Slot>(const Slot& slot) {
          if constexpr (std::is_same_v<Slot, keys::Choice>) {
            out.Text(*slot.at);
          } else if constexpr (std::is_same_v<Slot, keys::Subset>) {
            for (const bool in : slot.at) out.U8(in);
          } else if constexpr (requires { static_cast<double>(*slot.at); }) {
            out.F64(static_cast<double>(*slot.at));
          }
        },
        field.slot);
  }
  const AdamWOptions& steps = rule.optimizer;  // that no configuration has
  for (const double value : {steps.beta1, steps.beta2, steps.epsilon, steps.weight_decay}) {
    out.F64(value);
  }
  return Sha256Hex(out.Take());
}

std::string_view NameOf(LessonVerdict verdict) {
  switch (verdict) {
    case LessonVerdict::kLearnt:
      break;
    case LessonVerdict::kDrifts:
      return "drifts";
    case LessonVerdict::kDamages:
      return "damages";
    case LessonVerdict::kUnfounded:
      return "unfounded";
    case LessonVerdict::kAlone:
      return "alone";
  }
  return "learnt";
}

LessonLog::LessonLog(const std::string& base_sha256, const WebOptions& options) {
  Add(R"({"log":"lessons","format":)" + std::to_string(kFormat) + R"(,"products":)" +
      Quoted(PortablePath()) + R"(,"base_sha256":)" + Quoted(base_sha256) + R"(,"options":)" +
      OptionsText(options) + '}');
}

void LessonLog::Add(std::string_view line) {
  if (!cut_.empty()) return;
  if (lines_ == kLinesMost || text_.size() + line.size() + 1 > kBytesMost) {
    Cut("it has " + std::to_string(lines_) + " lines, and there is no room for more");
    return;
  }
  text_.reserve(text_.size() + line.size() + 1);
  last_ = text_.size();
  text_.append(line);
  text_ += '\n';
  ++lines_;
}

void LessonLog::AddAdapter(const std::string& digest) {
  const std::string line =
      std::string(kAdapterBegin) + Quoted(digest.empty() ? "new" : digest) + '}';
  text_.reserve(text_.size() + line.size() + 1);
  if (cut_.empty() && std::string_view(text_).substr(last_).starts_with(kAdapterBegin)) {
    text_.resize(last_);
    --lines_;
  }
  Add(line);
}

void LessonLog::AddLesson(const TokenExample& example, std::span<const TrainSequence> anchors,
                          LessonVerdict verdict, const std::string& digest) {
  const std::string lesson = LessonLine(example, verdict, digest);
  std::string beside = std::string(kAnchorsBegin) + ListOf(anchors, TokensOf) + '}';
  const bool are_others = anchors_.empty() ? !anchors.empty() : beside != anchors_;
  text_.reserve(text_.size() + beside.size() + lesson.size() + 2);
  if (are_others) {
    Add(beside);
    anchors_ = std::move(beside);
  }
  Add(lesson);
}

void LessonLog::ReserveStep(std::span<const TrainSequence> sequences) {
  text_.reserve(text_.size() + StepLine(sequences, "").size() + kDigestRoom);
}

void LessonLog::AddStep(std::span<const TrainSequence> sequences, const std::string& digest) {
  Add(StepLine(sequences, digest));
}

void LessonLog::AddRestore(const WebOptions& options) {
  Add(R"({"restored":)" + OptionsText(options) + '}');
}

void LessonLog::Cut(std::string_view why) {
  if (cut_.empty()) cut_ = why;
}

std::string LessonLog::Export(const std::string& digest) const {
  std::string end = R"({"end":)" + std::to_string(lines_) + R"(,"digest":)" + Quoted(digest);
  if (!cut_.empty()) end += R"(,"cut":)" + Quoted(cut_);
  return text_ + end + "}\n";
}

void LessonLog::Save(ByteWriter& out) const {
  out.Text(text_);
  out.Text(cut_);
}

Result<Nothing> LessonLog::Load(ByteReader& in) {
  std::string text = in.Text();
  std::string cut = in.Text();
  if (in.failed() || text.size() > kBytesMost || !text.ends_with('\n')) {
    return Error{Code::kUnreadableFile, "what was saved of the lessons' log is damaged",
                 "import an adapter that was exported"};
  }
  size_t lines = 0;
  size_t last = 0;
  std::string anchors;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.starts_with(kAnchorsBegin)) anchors = line;
    last = begin;
    begin = end + 1;
    ++lines;
  }
  text_ = std::move(text);
  lines_ = lines;
  last_ = last;
  anchors_ = std::move(anchors);
  cut_ = std::move(cut);
  return Nothing{};
}

}  // namespace nudge
