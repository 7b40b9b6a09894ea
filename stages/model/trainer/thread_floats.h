// Scratch memory of a thread: count -> [ThreadFloats] -> floats that only the calling thread has.
#pragma once

#include <cstddef>

#include "stages/model/trainer/gemm.h"

namespace nudge {

// Kept from call to call, its contents are not; valid until the thread's next call for the same
// `kUse`, an enumerator of the caller's own so that no two uses share memory. Throws
// std::bad_alloc.
template <auto kUse>
float* ThreadFloats(size_t count) {
  thread_local AlignedFloats memory;
  thread_local size_t size = 0;
  if (count > size) {
    size = 0;
    memory = nullptr;
    memory = AllocateFloats(count);
    size = count;
  }
  return memory.get();
}

}  // namespace nudge
