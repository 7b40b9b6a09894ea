# llama.cpp, built by scripts/setup into the cache: .cache/llama/{include,lib}.
if(NOT NUDGE_LLAMA_DIR)
  if(DEFINED ENV{NUDGE_CACHE})
    set(NUDGE_LLAMA_DIR $ENV{NUDGE_CACHE}/llama)
  else()
    set(NUDGE_LLAMA_DIR ${CMAKE_SOURCE_DIR}/.cache/llama)
  endif()
endif()
if(NOT EXISTS ${NUDGE_LLAMA_DIR}/include/llama.h)
  message(FATAL_ERROR "llama.cpp is not in ${NUDGE_LLAMA_DIR}: run scripts/setup first")
endif()
# The trainer reads GGUF files and knows their blocks, no more: ggml's base library is enough for it.
add_library(nudge_ggml INTERFACE)
target_include_directories(nudge_ggml SYSTEM INTERFACE ${NUDGE_LLAMA_DIR}/include)
target_link_libraries(nudge_ggml INTERFACE ${NUDGE_LLAMA_DIR}/lib/libggml-base.a Threads::Threads)
add_library(nudge_llama INTERFACE)
target_link_libraries(nudge_llama INTERFACE
  ${NUDGE_LLAMA_DIR}/lib/libllama.a ${NUDGE_LLAMA_DIR}/lib/libggml.a
  ${NUDGE_LLAMA_DIR}/lib/libggml-cpu.a nudge_ggml ${CMAKE_DL_LIBS})
