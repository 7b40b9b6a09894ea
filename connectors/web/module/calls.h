// What the functions for JavaScript share: a session, and an error as a sentence. For exports.cpp
// and text_exports.cpp alone.
#pragma once

#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "connectors/web/module/session.h"
#include "stages/result.h"

struct NudgeSession {
  std::unique_ptr<nudge::WebSession> session;
  std::vector<nudge::TrainSequence> lesson;
  double loss = 0;
  int32_t token = -1;
  std::span<const float> logits;
  std::string bytes;
  std::string digest;
};

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
