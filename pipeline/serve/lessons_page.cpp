#include "pipeline/serve/lessons_page.h"

#include <utility>

#include "connectors/json_writer.h"
#include "pipeline/lesson_book.h"
#include "pipeline/state/state_store.h"

namespace nudge {

Result<std::string> LessonsPageJson(const std::string& state_folder, const LessonsAsked& asked) {
  if (state_folder.empty()) {
    return Error{Code::kUnavailable, "no state is kept, from which lessons are read",
                 "set checkpoint.enabled"};
  }
  const auto files = StateFilesIn(state_folder);
  const auto found = files.find(0);
  if (found == files.end() || found->second.live.empty()) {
    return Error{Code::kUnavailable, "there is no state yet", "ask again in a moment"};
  }
  LessonsWanted wanted;
  wanted.tenant = asked.tenant;
  wanted.user = asked.user;
  wanted.after = asked.after;
  wanted.lessons_max = asked.lessons_max;
  const Result<LessonsPage> page = ReadLessonsPage(found->second.live, wanted);
  if (!page.ok()) return page.error();
  std::string out;
  JsonWriter json(out);
  json.Raw(R"({"tenant":)").Text(asked.tenant);
  json.Raw(R"(,"events":)").Integer(page->events);
  json.Raw(R"(,"serving":)").Integer(page->tenant.ServingOf(asked.user));
  json.Raw(R"(,"matching":)").Integer(page->matching).Raw(R"(,"lessons":[)");
  bool first = true;
  for (const TaughtLesson& lesson : page->tenant.lessons) {
    json.Raw(std::exchange(first, false) ? "" : ",").Raw(LessonJson(page->tenant, lesson));
  }
  json.Raw(R"(],"after":)");
  if (page->after) {
    json.Integer(*page->after);
  } else {
    json.Raw("null");
  }
  json.Raw("}");
  return out;
}

}  // namespace nudge
