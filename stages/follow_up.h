// What is looked for to answer a question inside a conversation: Query -> [SearchTextOf] -> text.
//
// Pure function, any thread.
#pragma once

#include <string>
#include <string_view>

#include "stages/events.h"

namespace nudge {

// Whether a turn says too little by itself to be looked for: it points back (one of its words is
// among a few pronouns and their like, English or Chinese), or has fewer than kContentWords words
// besides those that every question has.
bool FollowsOn(std::string_view turn);

inline constexpr size_t kContentWords = 2;

inline constexpr size_t kWordsBefore = 32;

// The question; where it follows on, behind the content words of the user's last turn before it,
// kWordsBefore at most. All of that turn would find its own document once more.
std::string SearchTextOf(const Query& query);

}  // namespace nudge
