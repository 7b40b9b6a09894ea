// What the functions for JavaScript share: an error as a sentence. For exports.cpp and
// text_exports.cpp alone.
#pragma once

#include <exception>
#include <string>

#include "stages/result.h"

namespace nudge {

// Of the last call that failed.
inline std::string& LastError() {
  static std::string text;
  return text;
}

inline bool Tell(const Error& error) {
  LastError() = error.message + (error.remedy.empty() ? "" : "; " + error.remedy);
  return false;
}

// Whether `body` said yes; nothing is thrown beyond this.
template <class Body>
bool Try(Body&& body) {
  try {
    return body();
  } catch (const std::exception& failure) {
    return Tell({Code::kInternal, failure.what(), ""});
  }
}

}  // namespace nudge
