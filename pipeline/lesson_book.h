// What tenants' models were taught, read out of a saved state:
// state folder, file or output folder -> [ReadLessons] -> Lessons of each tenant.
//
// For commands. Reads while a process writes, and changes nothing. Blocking calls, any thread; the
// texts of a tenant's lessons are in memory at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/events.h"
#include "stages/lineage.h"
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
  std::vector<TaughtLesson> lessons;  // in log order
};

// `path`: an output folder with its state, a state folder or a state file. By partition and tenant;
// with `tenant` that one alone, which is left out where the state does not know it. Errors:
// kUnreadableFile, where there is no state, or one that is damaged or of another build.
Result<std::vector<TenantLessons>> ReadLessons(const std::string& path,
                                               const std::optional<TenantId>& tenant);

// Whether a lesson is in effect, and if not why: a phrase for people that begins with "yes" where
// it is.
std::string InEffect(const TaughtLesson& lesson);

}  // namespace nudge
