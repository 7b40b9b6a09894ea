#include "connectors/keys_file.h"

#include <cstdint>
#include <set>

#include "connectors/json_reader.h"
#include "stages/files.h"

namespace nudge {
namespace {

constexpr uint64_t kFileBytesMax = 16 << 20;

}  // namespace

void ReadKeysFile(std::string_view option, const std::string& path, std::string_view remedy,
                  const std::function<Result<std::string>(std::string_view line)>& take) {
  const std::string named = std::string(option) + ": " + path + ": ";
  const Result<std::string> bytes = ReadFile(path, kFileBytesMax);
  if (!bytes.ok()) throw StartError(named + bytes.error().message);
  std::set<std::string> ids;
  size_t number = 0;
  for (std::string_view rest = *bytes; !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Result<std::string> id = take(line);
    const std::string where = path + ":" + std::to_string(number) + ": ";
    if (!id.ok()) throw StartError(where + id.error().message);
    if (!ids.insert(*id).second) {
      throw StartError(where + "the id " + Quoted(*id) + " is given twice");
    }
  }
  if (ids.empty()) throw StartError(named + "no key in it: " + std::string(remedy));
}

}  // namespace nudge
