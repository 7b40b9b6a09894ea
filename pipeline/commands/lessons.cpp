// `nudge lessons` and `nudge export`: what a tenant's model was taught, from the state of a run.
#include <algorithm>
#include <iostream>
#include <sstream>

#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "pipeline/commands/commands.h"
#include "pipeline/lesson_book.h"
#include "pipeline/observe/printable.h"
#include "stages/files.h"

namespace nudge {
namespace {

Error NoTenant(const std::string& path, const TenantId& tenant) {
  return {Code::kUnreadableFile, path + ": no lesson of tenant " + Quoted(tenant) + " is in it",
          "`nudge lessons " + path + "` without --tenant lists all tenants"};
}

// Four digits are what people compare.
std::string Short(double value) {
  std::ostringstream out;
  out.precision(4);
  out << value;
  return out.str();
}

size_t CountInEffect(const TenantLessons& tenant) {
  return static_cast<size_t>(
      std::count_if(tenant.lessons.begin(), tenant.lessons.end(), [](const TaughtLesson& lesson) {
        return lesson.counts() && lesson.view.standing == Lineage::Standing::kServes;
      }));
}

// ---- For people ---------------------------------------------------------------------------------

void Line(std::string_view name, std::string_view text) {
  std::string indented;
  for (const char c : text) {
    indented += c;
    if (c == '\n') indented += std::string(14, ' ');
  }
  std::cout << "  " << name << std::string(name.size() < 12 ? 12 - name.size() : 1, ' ')
            << Printable(indented) << "\n";
}

std::string Joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + Quoted(name);
  return text;
}

void PrintTexts(const TaughtLesson& lesson) {
  const TextExample& example = lesson.kept->example;
  Line("question", lesson.question());
  if (!example.shown.empty()) Line("answer", example.shown);
  if (example.correction) Line("correction", *example.correction);
  Line("reward", Short(example.reward));
  if (!lesson.kept->comment.empty()) Line("comment", lesson.kept->comment);
}

void PrintResult(const LessonResult& result) {
  const LessonReport& report = result.report;
  if (!result.error.empty()) return;
  const bool moved = report.tokens > 0;
  if (report.accepted && result.is_final) {
    Line("gate",
         "passed when it was tried again; before that " + std::string(WhyOf(report.verdict)));
  } else if (!report.accepted) {
    Line("gate", "set aside: " + std::string(WhyOf(report.verdict)) +
                     (result.is_final
                          ? "; refused for good: tried again in vain, or more waited than are kept"
                          : ""));
  } else {
    Line("gate",
         moved ? "passed" : "nothing to pass: a dislike moves nothing without likes beside it");
  }
  if (report.evidence) {
    Line("evidence", Short(*report.evidence) +
                         " nats by which its text is likelier behind its own question than others");
  }
  if (report.canary_drop != 0) {
    Line("quotes", Short(report.canary_drop) +
                       " nats a token less likely behind this step than to the base model");
  }
  if (report.nll_before == 0 || !moved) return;  // no likelihoods, or no step
  Line("loss", Short(report.nll_before) + " nats a token of the target before the step" +
                   (report.nll_after ? ", " + Short(*report.nll_after) + " behind it" : "") + "; " +
                   Short(report.loss) + " minimised in all, KL of the anchors " + Short(report.kl));
}

}  // namespace

void PrintLesson(const TaughtLesson& lesson) {
  const Lineage::LessonView& view = lesson.view;
  const Lineage::Taught& taught = view.taught;
  if (!taught.user.empty()) Line("user", Quoted(taught.user));
  std::set<std::string> others = view.people;
  others.erase(taught.user);
  if (!others.empty()) Line("words of", Joined(others));
  if (!taught.query_id.empty()) {
    Line("about", Quoted(taught.query_id) + " of " + Quoted(taught.query_source));
  }
  if (lesson.kept) PrintTexts(lesson);
  if (view.step != 0) {
    Line("step", std::to_string(view.step) +
                     (view.makes ? ", made version " + std::to_string(*view.makes) : ""));
  }
  if (lesson.result) PrintResult(*lesson.result);
  if (lesson.is_restricted) Line("rights", "rests on a document that is not for everybody");
  Line("in effect", InEffect(lesson));
}

namespace {

// What answers, of everybody or of each user with an adapter of their own.
std::string Serving(const TenantLessons& tenant) {
  const auto serves = [](Version version) {
    return version == 0 ? std::string("the base model") : "version " + std::to_string(version);
  };
  std::string text = serves(tenant.serving) + " serves";
  if (tenant.serving_users.empty()) return text;
  text += " but for";
  for (const auto& [user, version] : tenant.serving_users) {
    text += (text.ends_with("for") ? " " : ", ") + Quoted(user) + ": " + serves(version);
  }
  return text;
}

void Print(const TenantLessons& tenant) {
  std::cout << "tenant " << Quoted(tenant.tenant) << ", partition " << tenant.partition << ": "
            << tenant.lessons.size() << (tenant.lessons.size() == 1 ? " lesson, " : " lessons, ")
            << CountInEffect(tenant) << " in effect; " << Serving(tenant) << "\n";
  for (const TaughtLesson& lesson : tenant.lessons) {
    const Lineage::Taught& taught = lesson.view.taught;
    std::cout << "event " << lesson.event();
    if (!taught.id.empty())
      std::cout << ": " << Quoted(taught.id) << " of " << Quoted(taught.source);
    std::cout << "\n";
    PrintLesson(lesson);
  }
}

// ---- Export -------------------------------------------------------------------------------------

void WriteMessages(const std::vector<ChatMessage>& chat, JsonWriter& json, std::string_view role,
                   std::string_view text) {
  const auto write = [&](std::string_view of, std::string_view said) {
    json.Raw(R"({"role":)").Text(of).Raw(R"(,"content":)").Text(said).Raw("}");
  };
  bool first = true;
  json.Raw("[");
  for (const ChatMessage& message : chat) {
    if (!std::exchange(first, false)) json.Raw(",");
    write(message.role, message.text);
  }
  if (!role.empty()) {
    if (!first) json.Raw(",");
    write(role, text);
  }
  json.Raw("]");
}

// Beside the columns that a trainer reads, those by which people find a row again.
void WriteOrigin(const TaughtLesson& lesson, JsonWriter& json) {
  json.Raw(R"(,"event_source":)").Text(lesson.view.taught.source);
  json.Raw(R"(,"event_id":)").Text(lesson.view.taught.id);
  json.Raw(R"(,"user":)").Text(lesson.view.taught.user);
  json.Raw(R"(,"reward":)").Number(lesson.kept->example.reward);
  json.Raw(R"(,"comment":)").Text(lesson.kept->comment);
  json.Raw("}\n");
}

// False: the lesson says no good answer.
bool WriteChat(const TaughtLesson& lesson, std::string& out) {
  const TextExample& example = lesson.kept->example;
  if (!example.correction && example.reward <= 0) return false;
  JsonWriter json(out);
  json.Raw(R"({"messages":)");
  WriteMessages(example.chat, json, "assistant", example.correction.value_or(example.shown));
  WriteOrigin(lesson, json);
  return true;
}

// False: the lesson does not say which of two answers is the better one.
bool WritePreference(const TaughtLesson& lesson, std::string& out) {
  const TextExample& example = lesson.kept->example;
  if (!example.correction || example.shown.empty() || *example.correction == example.shown) {
    return false;
  }
  JsonWriter json(out);
  json.Raw(R"({"prompt":)");
  WriteMessages(example.chat, json, {}, {});
  json.Raw(R"(,"chosen":)");
  WriteMessages({}, json, "assistant", *example.correction);
  json.Raw(R"(,"rejected":)");
  WriteMessages({}, json, "assistant", example.shown);
  WriteOrigin(lesson, json);
  return true;
}

}  // namespace

int Lessons(const LessonsArguments& arguments) {
  const auto tenant =
      arguments.tenant.empty() ? std::nullopt : std::optional<TenantId>(arguments.tenant);
  const Result<std::vector<TenantLessons>> read = ReadLessons(arguments.path, tenant);
  if (!read.ok()) return FailWith(read.error(), kExitUsage);
  if (tenant && read->empty()) return FailWith(NoTenant(arguments.path, *tenant), kExitUsage);
  bool first = true;
  for (const TenantLessons& each : *read) {
    if (arguments.json) {
      for (const TaughtLesson& lesson : each.lessons) std::cout << LessonJson(each, lesson) << "\n";
      continue;
    }
    if (!std::exchange(first, false)) std::cout << "\n";
    Print(each);
  }
  if (!arguments.json && read->empty()) std::cout << "no lesson of any tenant\n";
  return kExitDone;
}

int Export(const ExportArguments& arguments) {
  const Result<std::vector<TenantLessons>> read = ReadLessons(arguments.path, arguments.tenant);
  if (!read.ok()) return FailWith(read.error(), kExitUsage);
  if (read->empty()) return FailWith(NoTenant(arguments.path, arguments.tenant), kExitUsage);
  const bool is_chat = arguments.format == "chat";
  std::string out;
  size_t written = 0;
  size_t left_out = 0;
  size_t restricted = 0;
  for (const TenantLessons& each : *read) {
    for (const TaughtLesson& lesson : each.lessons) {
      if (!lesson.counts() || !lesson.kept) continue;
      if (lesson.is_restricted && !arguments.with_restricted) {
        ++restricted;
        continue;
      }
      const bool fits = is_chat ? WriteChat(lesson, out) : WritePreference(lesson, out);
      ++(fits ? written : left_out);
    }
  }
  if (arguments.file == "-") {
    std::cout << out;
  } else if (const Result<Nothing> saved = ReplaceFile(arguments.file, out); !saved.ok()) {
    return FailWith({saved.error().code, arguments.file + ": " + saved.error().message,
                     saved.error().remedy.empty() ? "check the path" : saved.error().remedy},
                    kExitUsage);
  }
  std::cerr << written << (written == 1 ? " lesson" : " lessons") << " written as "
            << arguments.format << "; " << left_out << " that count "
            << (is_chat ? "name no good answer" : "do not compare two answers");
  if (restricted > 0) {
    std::cerr << "; " << restricted
              << " left out: they rest on documents that are not for everybody"
              << " (--with-restricted)";
  }
  std::cerr << "\n";
  return kExitDone;
}

}  // namespace nudge
