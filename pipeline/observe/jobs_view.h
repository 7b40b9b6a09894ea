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

// How a tenant's lessons ended since this process has the tenant, and figures of the last one.
inline constexpr std::array<std::string_view, 6> kLessonEnds = {"learnt",    "drifts", "damages",
                                                                "unfounded", "alone",  "failed"};
struct LessonsView {
  std::array<uint64_t, kLessonEnds.size()> ended{};
  uint64_t learnt_after_all = 0;  // of those that were set aside
  uint64_t refused_for_good = 0;  // the same
  double nll_before = 0;          // nats per token
  double anchors_kl = 0;          // the same
  double canary_drop = 0;         // the same
};

struct TenantView {
  TenantId tenant;
  Version newest = 0;
  size_t versions = 0;  // that are kept
  LessonsView lessons;
  bool is_named = true;  // in metrics: the first kTenantsNamed that this process saw
};
inline constexpr size_t kTenantsNamed = 100;

// Committed since start; monotonic.
struct OutcomeCounts {
  uint64_t outcomes = 0;
  uint64_t responses = 0;
  uint64_t receipts = 0;
  uint64_t dead_letters = 0;
};

}  // namespace nudge
