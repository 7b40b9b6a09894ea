// What tenants' models were taught, read out of a saved state:
//   state folder, file or output folder -> [ReadLessons] -> lessons of each tenant
//   state file of this process, a place in it -> [ReadLessonsPage] -> some lessons of one tenant
//
// Reads while a process writes, and changes nothing. Blocking calls, any thread. ReadLessons is for
// commands: it checks the whole file, and has the texts of a tenant's lessons in memory at once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/events.h"
#include "stages/lineages.h"
#include "stages/model/learn/tenant_adapters.h"
#include "stages/result.h"

namespace nudge {

struct TaughtLesson {
  Lineage::LessonView view;
  std::optional<KeptLesson> kept;      // nothing of one that has left
  std::optional<LessonResult> result;  // nothing of one that was not learnt, or has left
  bool is_restricted = false;  // it rests on a document that is not for everybody, then or now

  uint64_t event() const { return Sequence{view.place - 1}.ordinal(); }
  // The question, without passages; empty where nothing is kept.
  std::string_view question() const;
  // Whether it has part in what serves now, or in what comes next.
  bool counts() const;
};

struct TenantLessons {
  TenantId tenant;
  int32_t partition = 0;
  Version serving = 0;
  // Where users have adapters of their own: which version serves each who has taught. Then nothing
  // but the base model serves everybody else.
  std::map<LearnerId, Version> serving_users = {};
  std::vector<TaughtLesson> lessons = {};  // in log order

  // The version that serves this user; of nobody in particular, who has taught nothing.
  Version ServingOf(const std::optional<std::string>& user) const;
};

// `path`: an output folder with its state, a state folder or a state file. By partition and tenant;
// with `tenant` that one alone, which is left out where the state does not know it. Errors:
// kUnreadableFile, where there is no state, or one that is damaged or of another build.
Result<std::vector<TenantLessons>> ReadLessons(const std::string& path,
                                               const std::optional<TenantId>& tenant);

// Which lessons a page has.
struct LessonsWanted {
  TenantId tenant;
  std::optional<std::string> user;  // of this one alone; one that has left has no user
  std::optional<uint64_t> after;    // only those of later events
  size_t lessons_max = 100;
  uint64_t bytes_max = 1 << 20;  // of their texts; one lesson comes however long it is
};

struct LessonsPage {
  uint64_t events = 0;            // that the state has applied
  TenantLessons tenant;           // with the page's lessons
  size_t matching = 0;            // of the user, on all pages
  std::optional<uint64_t> after;  // of the next page; nothing: this was the last one
};

// For the process that writes the state alone: `path` is its file. Reads the tenant's tree and the
// texts of the page, and checks what it reads. Without lessons the page is empty. Errors as
// ReadLessons.
Result<LessonsPage> ReadLessonsPage(const std::string& path, const LessonsWanted& wanted);

// A lesson as one JSON object, as docs/HTTP.md lists its members.
std::string LessonJson(const TenantLessons& tenant, const TaughtLesson& lesson);

// Whether a lesson is in effect, and if not why: a phrase for people that begins with "yes" where
// it is.
std::string InEffect(const TaughtLesson& lesson);

}  // namespace nudge
