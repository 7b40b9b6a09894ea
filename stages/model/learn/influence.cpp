#include "stages/model/learn/influence.h"

#include <algorithm>

namespace nudge {
namespace {

constexpr double kFaded = 1e-6;

// Of the say that all have together.
double EqualPart(const Voice& voice, const std::set<Voice>& present) {
  size_t sources = 0;
  size_t people = 0;  // of the voice's source
  const Voice* before = nullptr;
  for (const Voice& one : present) {  // in order of sources
    if (before == nullptr || before->source != one.source) ++sources;
    if (one.source == voice.source) ++people;
    before = &one;
  }
  return 1 / (static_cast<double>(sources) * static_cast<double>(people));
}

}  // namespace

// What the voice would have to get of the next step, for its part of what those present have had.
double Influence::Short(const Voice& voice, const std::set<Voice>& present) const {
  double all = 1;
  double own = 0;
  for (const Voice& one : present) {
    const auto had = had_.find(one);
    if (had == had_.end()) continue;
    all += had->second;
    if (one == voice) own = had->second;
  }
  return EqualPart(voice, present) * all - own;
}

double Influence::ShareOf(const Voice& voice, const std::set<Voice>& present, double most) const {
  return std::clamp(Short(voice, present), kLeastShare, most);
}

Voice Influence::FurthestShort(const std::set<Voice>& present, const std::map<Voice, double>& given,
                               const std::set<Voice>& candidates) const {
  const Voice* furthest = nullptr;
  double most = 0;
  for (const Voice& one : candidates) {
    const auto part = given.find(one);
    const double is_short = Short(one, present) - (part == given.end() ? 0 : part->second);
    if (furthest != nullptr && is_short <= most) continue;
    furthest = &one;
    most = is_short;
  }
  return *furthest;
}

void Influence::Book(const std::map<Voice, double>& shares, size_t present, double lessons) {
  const double decay = 1 - 1 / (lessons * static_cast<double>(present));
  for (auto& [voice, had] : had_) had *= decay;
  for (const auto& [voice, share] : shares) had_[voice] += share;
  std::erase_if(had_, [](const auto& entry) { return entry.second < kFaded; });
}

void Influence::Save(ByteWriter& out) const {
  out.U64(had_.size());
  for (const auto& [voice, had] : had_) {
    out.U64(voice.source);
    out.U64(voice.person);
    out.F64(had);
  }
}

void Influence::Load(ByteReader& in) {
  had_.clear();
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    const Voice voice{in.U64(), in.U64()};
    had_[voice] = in.F64();
  }
}

}  // namespace nudge
