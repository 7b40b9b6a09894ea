// The table of all configuration keys, for those that read, describe and hash a Config: config.cpp
// and config_json.cpp, nobody else. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "pipeline/config/config.h"

namespace nudge::keys {

// What a field holds: where its value goes, and what may stand there.
struct Flag {
  bool* at;
};
template <class T>
struct Number {
  T* at;
  double least;  // both included
  double most;
};
template <class T>
Number(T*, double, double) -> Number<T>;
struct Text {
  std::string* at;
  double least_bytes;
  double most_bytes;
};
struct Choice {
  std::string* at;
  std::vector<std::string> names;
};
struct Subset {  // a list of some of `names`, kept in their order; or a word for such a list
  std::vector<std::string>* at;
  std::vector<std::string> names;
  std::map<std::string, std::vector<std::string>> words;
};
struct Path {
  std::string* at;
  enum class Base { kConfigFolder, kWorkingFolder } base;
  bool required = false;
  bool standard_input = false;  // "-" may stand for it
};
struct Properties {  // names and values of another system
  std::map<std::string, std::string>* at;
};
struct Presets {
  std::vector<DecodingPreset>* at;
  double least;
  double most;
};
using Slot = std::variant<Flag, Number<uint32_t>, Number<uint64_t>, Number<int>, Number<double>,
                          Text, Choice, Subset, Path, Properties, Presets>;

enum class Effect {
  kSemantic,     // can change an outcome
  kOperational,  // cannot
};

struct Field {
  std::string path;
  Slot slot;
  std::string_view unit;  // where the name does not say it
  Effect effect;
  std::string_view what;
};
using Fields = std::vector<Field>;

struct Section {
  std::string_view name;
  std::string_view what;
};
// In the order of files and documents.
const std::vector<Section>& Sections();

// Every key, bound to `config`: a field's slot points into it.
Fields FieldsOf(Config& config);
// The keys of an element of prompt.presets, each behind `path` and a dot.
Fields FieldsOf(DecodingPreset& preset, const std::string& path);

inline constexpr size_t kPathBytes = 4096;

// A file's content. Throws StartError, which begins with the path: missing, a folder, unreadable,
// over `most_bytes`.
std::string ReadWhole(const std::string& path, size_t most_bytes);

// ---- Words --------------------------------------------------------------------------------------

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

std::string ToText(double number);               // "64", "0.5", "1e-08"
std::string ToRange(double least, double most);  // "1..64"
std::string Join(const std::vector<std::string>& parts, std::string_view separator);
std::string_view LastPart(std::string_view path);  // "rank" of "adapt.rank"

}  // namespace nudge::keys
