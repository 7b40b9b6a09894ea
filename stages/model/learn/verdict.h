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
  kAlone,      // set aside: fewer people than adapt.quorum_people agree
};

// For people, behind "set aside: "; empty: it was learnt.
inline std::string_view WhyOf(LessonVerdict verdict) {
  switch (verdict) {
    case LessonVerdict::kLearnt:
      break;
    case LessonVerdict::kDrifts:
      return "behind it the model is too far from the base model";
    case LessonVerdict::kDamages:
      return "behind it the model no longer says what documents say";
    case LessonVerdict::kUnfounded:
      return "what its user teaches does not follow from what was asked";
    case LessonVerdict::kAlone:
      return "fewer people teach it than adapt.quorum_people asks for";
  }
  return "";
}

}  // namespace nudge
