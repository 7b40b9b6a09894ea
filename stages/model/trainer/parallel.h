// ParallelFor: how the numeric code of stages/model runs on several threads without owning any.
//
// The caller (the executor) passes a function that calls body(0) .. body(parts - 1), each exactly
// once, in any order, on any threads, and returns when all have returned. The number of parts is a
// function of the work alone, never of the number of threads, and every part writes memory of its
// own: results have the same bytes for any number of threads. Bodies do not throw.
#pragma once

#include <cstddef>
#include <functional>

namespace nudge {

using ParallelFor = std::function<void(int parts, const std::function<void(int part)>& body)>;

// Runs the parts in order on the calling thread.
ParallelFor SerialFor();

// Calls `body(size_t part)` for each part. Nothing is allocated: the body is passed by reference.
template <class Body>
void RunParts(const ParallelFor& parallel, size_t parts, Body&& body) {
  if (parts == 0) return;
  auto call = [&body](int part) { body(static_cast<size_t>(part)); };
  parallel(static_cast<int>(parts), std::function<void(int)>(std::ref(call)));
}

// Calls `body(begin, rows)` for blocks of at most kRowBlock consecutive rows.
inline constexpr size_t kRowBlock = 32;

template <class Body>
void RunRows(const ParallelFor& parallel, size_t rows, Body&& body) {
  RunParts(parallel, (rows + kRowBlock - 1) / kRowBlock, [&](size_t part) {
    const size_t begin = part * kRowBlock;
    body(begin, begin + kRowBlock < rows ? kRowBlock : rows - begin);
  });
}

}  // namespace nudge
