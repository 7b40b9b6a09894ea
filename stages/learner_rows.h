// Whose rows of a saved state are: rows of a tenant's learners <-> Change::id.
//
// Of a user's learner the user's name stands behind the id; of the tenant's own the id is as it is.
// So a range of ids finds a row whosever it is, and a tenant's rows stay under its name. Ids of
// these kinds are numbers (RowId) or empty. Plain functions, any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "stages/jobs.h"
#include "stages/state.h"

namespace nudge {

inline constexpr char kLearnerMark = '@';

inline void NameLearner(const LearnerId& learner, std::span<Change> rows) {
  if (learner.empty()) return;
  for (Change& row : rows) row.id += kLearnerMark + learner;
}

inline LearnerId LearnerOfRow(std::string_view id) {
  const size_t mark = id.find(kLearnerMark);
  return mark == std::string_view::npos ? LearnerId() : LearnerId(id.substr(mark + 1));
}
// The id as it was before NameLearner.
inline std::string_view WithoutLearner(std::string_view id) {
  return id.substr(0, id.find(kLearnerMark));
}

}  // namespace nudge
