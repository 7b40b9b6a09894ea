// What became of a step, and why. A plain value, any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace nudge {

enum class LessonVerdict : uint8_t {
  kLearnt,
  kDrifts,     // taken back: it left the anchors too far from the base model
  kDamages,    // set aside: behind it the canaries' quotes are too unlikely
  kUnfounded,  // set aside: its voice's lessons do not follow from what they are about
};

inline std::string_view NameOfVerdict(LessonVerdict verdict) {
  switch (verdict) {
    case LessonVerdict::kLearnt:
      return "learnt";
    case LessonVerdict::kDrifts:
      return "drifts";
    case LessonVerdict::kDamages:
      return "damages";
    case LessonVerdict::kUnfounded:
      return "unfounded";
  }
  return "";
}

}  // namespace nudge
