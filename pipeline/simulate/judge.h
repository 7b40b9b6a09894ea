// Whether an answer is what was wanted.
//
//   answer, question, form -> [InForm], [HasKey] -> yes or no
//
// Pure functions; any thread.
#pragma once

#include <string_view>

#include "pipeline/simulate/world.h"

namespace nudge {

// One of the question's keys stands in the answer as whole words, letter case aside: "5 euros" is
// not in "15 euros", nor "3.6" in "13.6".
bool HasKey(std::string_view answer, const WorldQuestion& question);

// All of the form's rules hold. White space at the ends of the answer is no part of it.
bool InForm(std::string_view answer, const WorldForm& form, const WorldQuestion& question);

// The form's correction with the key in its place.
std::string CorrectionOf(const WorldForm& form, std::string_view key);

}  // namespace nudge
