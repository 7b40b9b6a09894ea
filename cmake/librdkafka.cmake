# librdkafka, built by scripts/setup into the cache: .cache/librdkafka/{include,lib}.
if(NOT NUDGE_LIBRDKAFKA_DIR)
  if(DEFINED ENV{NUDGE_CACHE})
    set(NUDGE_LIBRDKAFKA_DIR $ENV{NUDGE_CACHE}/librdkafka)
  else()
    set(NUDGE_LIBRDKAFKA_DIR ${CMAKE_SOURCE_DIR}/.cache/librdkafka)
  endif()
endif()
if(NOT EXISTS ${NUDGE_LIBRDKAFKA_DIR}/include/librdkafka/rdkafka.h)
  message(FATAL_ERROR "librdkafka is not in ${NUDGE_LIBRDKAFKA_DIR}: run scripts/setup first")
endif()
add_library(nudge_librdkafka INTERFACE)
target_include_directories(nudge_librdkafka SYSTEM INTERFACE ${NUDGE_LIBRDKAFKA_DIR}/include)
target_link_libraries(nudge_librdkafka INTERFACE
  ${NUDGE_LIBRDKAFKA_DIR}/lib/librdkafka.a OpenSSL::SSL OpenSSL::Crypto ZLIB::ZLIB sasl2 zstd lz4 m
  Threads::Threads ${CMAKE_DL_LIBS})
