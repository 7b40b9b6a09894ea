// Where scripts/setup puts what it fetches and makes.
#pragma once

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace nudge::testing {

inline std::string CacheFolder() {
  const char* const cache = std::getenv("NUDGE_CACHE");
  // Absolute: a configuration in another folder names files by it.
  return std::filesystem::absolute(cache != nullptr ? cache : NUDGE_SOURCE_DIR "/.cache").string();
}
inline std::string ModelFolder() {
  return CacheFolder() + "/models/";
}

inline constexpr char kSmolLmName[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
inline constexpr char kE5Name[] = "multilingual-e5-small-q4_0.gguf";

// The language model; a test that cannot have it fails.
inline std::string ModelPath() {
  const std::string path = ModelFolder() + kSmolLmName;
  BOOST_REQUIRE_MESSAGE(std::filesystem::exists(path), path + " is missing: run scripts/setup");
  return path;
}

}  // namespace nudge::testing
