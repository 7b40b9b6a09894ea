#include "stages/model/remote/tries.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "stages/files.h"

namespace nudge {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{250};
constexpr milliseconds kLongestPause{8'000};
constexpr milliseconds kPoll{20};
constexpr uint64_t kKeyBytes = 8 << 10;

}  // namespace

bool MayPass(int status) {
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

milliseconds PauseBehind(uint32_t tries) {
  return std::min(kLongestPause, kFirstPause * (1 << std::min<uint32_t>(tries - 1, 5)));
}

bool Pause(milliseconds pause, const std::function<bool()>& cancelled) {
  for (const auto end = Clock::now() + pause; Clock::now() < end;) {
    if (cancelled && cancelled()) return false;
    std::this_thread::sleep_for(std::min<Clock::duration>(kPoll, end - Clock::now()));
  }
  return !(cancelled && cancelled());
}

std::string ReadServerKey(const std::string& path, const std::string& option) {
  if (path.empty()) return {};
  Result<std::string> read = ReadFile(path, kKeyBytes);
  if (!read.ok()) throw StartError(option + ": " + path + ": " + read.error().message);
  std::string key = *std::move(read);
  while (key.ends_with('\n') || key.ends_with('\r')) key.pop_back();
  const auto is_plain = [](char c) { return c > 0x20 && c < 0x7F; };
  if (key.empty() || !std::all_of(key.begin(), key.end(), is_plain)) {
    throw StartError(option + ": " + path +
                     ": not one line of visible ASCII: write the key into it and nothing else");
  }
  return key;
}

}  // namespace nudge
