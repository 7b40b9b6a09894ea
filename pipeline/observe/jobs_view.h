// What the outside may see of the executor and the outbox: plain values, for people.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "stages/events.h"

namespace nudge {

// What a model is asked for.
enum class JobKind { kGenerate, kEmbedQuery, kLearn, kEmbedDocument };
inline constexpr std::array<std::string_view, 4> kJobKinds = {"generate", "embed_query", "learn",
                                                              "embed_document"};

struct RunningJob {
  JobKind kind{};
  Sequence at;  // what it is for
  std::chrono::steady_clock::time_point since;
};

struct TenantView {
  TenantId tenant;
  Version newest = 0;
  size_t versions = 0;  // that are kept
};

// Committed since start; monotonic.
struct OutcomeCounts {
  uint64_t outcomes = 0;
  uint64_t responses = 0;
  uint64_t receipts = 0;
  uint64_t dead_letters = 0;
};

}  // namespace nudge
