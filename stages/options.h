// How a part tells of its options: a list of fields, one for each key of the configuration.
//
// Every part has its options in a header <part>_options.h: a struct, whose values are the defaults,
// and OptionsOf, which says of every member that can be configured where it stands in the file,
// what may stand there, whether it can change an outcome, and what it is. The configuration
// (pipeline/config) collects, reads, describes and hashes these fields; nothing else is to be told
// of a new option.
//
// Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace nudge {

struct DecodingPreset;  // stages/prompt_options.h

namespace keys {

// What a field holds: where its value goes, and what may stand there.
struct Flag {
  bool* at;
};
template <class T>
struct Number {  // of a duration: its milliseconds
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
struct Subset {        // a list of some of `names`, or a word for such a list
  std::span<bool> at;  // of each name: whether it is in it
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
                          Number<std::chrono::milliseconds>, Text, Choice, Subset, Path, Properties,
                          Presets>;

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

// For a part that holds the options of others: all of them, in this order.
Fields Together(const std::vector<Fields>& parts);

// What a part can tell of its own values, whoever set them: `adapt.rank: 0 is outside 1..64` of a
// number beyond its range, and so on of a text that is no choice and a list of nothing.
std::vector<std::string> WrongValues(const Fields& fields);

std::string ToText(double number);               // "64", "0.5", "1e-08"
std::string ToRange(double least, double most);  // "1..64"
std::string Join(const std::vector<std::string>& parts, std::string_view separator);

template <class... F>
struct Overloaded : F... {  // to visit a Slot with
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace keys
}  // namespace nudge
